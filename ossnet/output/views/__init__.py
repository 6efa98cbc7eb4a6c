"""What an interpreter and a notebook show of an object: one line, or a heading over slices and a legend."""

from collections.abc import Sequence
from dataclasses import dataclass

from ossnet.errors import printable
from ossnet.output.html import render_part
from ossnet.output.palette import color
from ossnet.output.views.slices import Plane, draw

LINE = 110
"""Characters of a line."""
_PIXELS = 224
_TINT = 0.4
_MOST_NAMES = 4
_MOST_COLORS = 24


@dataclass(frozen=True)
class Picture:
    """Slices through a volume."""

    caption: str
    source: str
    """The picture as a data URI."""

    @classmethod
    def of(
        cls,
        planes: Sequence[Plane],
        values: Sequence[int],
        spacing: tuple[float, float, float],
        *,
        caption: str = "",
    ) -> "Picture":
        """Draw slices, as `ossnet.output.views.slices.draw`."""
        return cls(caption, draw(planes, values=values, spacing=spacing, edge=_PIXELS, tint=_TINT))


def one_line(kind: str, facts: str) -> str:
    """The representation `kind(facts)`, cut off where it would not fit a line."""
    text, room = " ".join(printable(facts).split()), LINE - len(kind) - 2
    return f"{kind}({text if len(text) <= room else text[: room - 3] + '...'})"


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def grid_text(shape: Sequence[int], spacing: Sequence[float]) -> str:
    """Voxels and their size in mm along each axis."""
    sizes = " x ".join(f"{size:.3g}" for size in spacing)
    return f"{' x '.join(map(str, shape))} voxels of {sizes} mm"


def notebook_view(
    title: str,
    *,
    facts: Sequence[str] = (),
    pictures: Sequence[Picture] = (),
    classes: Sequence[str] = (),
) -> str:
    """A part of a page, complete in itself; texts are escaped.

    Args:
        facts: lines below the title.
        classes: what the legend says of each class, in class order, the background left out.
    """
    legend = [(color(position), name) for position, name in enumerate(classes[:_MOST_COLORS])]
    if len(classes) > _MOST_COLORS:
        legend.append(("inherit", f"and {len(classes) - _MOST_COLORS} more"))
    return render_part("notebook.html", title=title, facts=facts, pictures=pictures, legend=legend)
