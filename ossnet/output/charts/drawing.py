"""Inline SVG whose colors are the page's: what every chart is drawn with."""

from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, SubElement, tostring

from ossnet.errors import printable
from ossnet.output.charts.scale import Scale, number

if TYPE_CHECKING:
    from markupsafe import Markup

Value = str | float | int


class Drawing:
    """An SVG under construction. Texts are escaped; classes are those of the pages' stylesheet.

    Args:
        width, height: its coordinates; at this many pixels its texts have their size.
        label: what it shows, for those who hear the page.
    """

    def __init__(self, width: float, height: float, label: str) -> None:
        self.width, self.height = width, height
        box = f"0 0 {width:g} {height:g}"
        self._root = Element("svg", {"viewBox": box, "role": "img", "aria-label": printable(label)})

    def add(
        self,
        tag: str,
        attributes: dict[str, Value],
        *,
        text: str = "",
        title: str = "",
        trial: int | None = None,
    ) -> Element:
        """Add an element.

        Args:
            title: its tooltip.
            trial: number of the trial that it shows; the pages' script marks all of one together.
        """
        texts = {
            name: f"{value:.4g}" if isinstance(value, float) else str(value)
            for name, value in attributes.items()
        }
        if trial is not None:
            texts["data-trial"] = str(trial)
        element = SubElement(self._root, tag, texts)
        if title:
            SubElement(element, "title").text = printable(title)
        if text:
            element.text = printable(text)
        return element

    def text(self, x: float, y: float, text: str, *, anchor: str = "middle", kind: str = "tick") -> None:
        """Write a text."""
        self.add("text", {"x": x, "y": y, "text-anchor": anchor, "class": kind}, text=text)

    def axes(
        self,
        x: Scale,
        y: Scale,
        *,
        labels: tuple[str, str],
        whole: tuple[bool, bool] = (False, False),
    ) -> None:
        """Draw a grid with its numbers and the names of both axes.

        Args:
            whole: whether an axis names whole numbers only.
        """
        left, right = sorted((x.start, x.end))
        top, bottom = sorted((y.start, y.end))
        for value in y.ticks(whole=whole[1]):
            self.add("line", {"x1": left, "x2": right, "y1": y(value), "y2": y(value), "class": "grid"})
            self.text(left - 6, y(value) + 4, number(value), anchor="end")
        self.axis(x, (top, bottom), labels[0], whole=whole[0])
        self.text(left - 30, top - 8, labels[1], anchor="start", kind="axis")

    def axis(self, x: Scale, rows: tuple[float, float], label: str, *, whole: bool = False) -> None:
        """Draw the horizontal axis alone: its grid from one row to another, its numbers and its name."""
        top, bottom = rows
        for value in x.ticks(whole=whole):
            self.add("line", {"x1": x(value), "x2": x(value), "y1": top, "y2": bottom, "class": "grid"})
            self.text(x(value), bottom + 15, number(value))
        self.text((x.start + x.end) / 2, bottom + 31, label, kind="axis")

    def markup(self) -> "Markup":
        """The SVG for a template, which does not escape it again."""
        from markupsafe import Markup

        return Markup(tostring(self._root, encoding="unicode"))
