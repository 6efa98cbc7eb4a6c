"""Scores of cases: a row a case, the worst at the bottom, with a mark for each class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING

from ossnet.output.charts.drawing import Drawing
from ossnet.output.charts.scale import Scale
from ossnet.output.palette import color

if TYPE_CHECKING:
    from markupsafe import Markup

_MOST_NAMED = 60  # rows with their names; of more, rows become thin


@dataclass(frozen=True)
class CaseMarks:
    """A case's scores by class."""

    case: str
    scores: Mapping[str, float]
    others: Mapping[str, float] = field(default_factory=dict)
    """Those of the network that is compared with, if any."""


def case_chart(cases: Sequence[CaseMarks], *, classes: Sequence[str], measure: str) -> "Markup":
    """Draw the cases by their mean; a hollow mark, joined to its filled one, is the other network's.

    Args:
        classes: in the order of their colors.
        measure: what is drawn, from 0 to 1.
    """
    ordered = sorted(cases, key=lambda each: -fmean(each.scores.values()))
    named = len(cases) <= _MOST_NAMED
    row, left, width, top = (20.0, 150.0, 720.0, 24.0) if named else (5.0, 20.0, 720.0, 24.0)
    bottom = top + row * len(cases)
    drawing = Drawing(width, bottom + 40, f"{measure} of each case")
    scale = Scale(0.0, 1.0, left, width - 16)
    drawing.axis(scale, (top, bottom), measure)
    for position, each in enumerate(ordered):
        middle = top + row * (position + 0.5)
        drawing.add("line", {"x1": left, "x2": width - 16, "y1": middle, "y2": middle, "class": "row"})
        if named:
            drawing.text(
                left - 8,
                middle + 4,
                each.case if len(each.case) <= 21 else f"…{each.case[-20:]}",
                anchor="end",
            )
        for index, name in enumerate(classes):
            _mark(drawing, each, name, color(index), scale, middle)
    return drawing.markup()


def _mark(drawing: Drawing, each: CaseMarks, name: str, shade: str, scale: Scale, y: float) -> None:
    value, other = each.scores[name], each.others.get(name)
    if other is not None:
        drawing.add(
            "line",
            {"x1": scale(other), "x2": scale(value), "y1": y, "y2": y, "stroke": shade, "class": "join"},
        )
        place: dict[str, str | float | int] = {
            "cx": scale(other),
            "cy": y,
            "r": 4,
            "stroke": shade,
            "class": "hollow",
        }
        drawing.add("circle", place, title=f"{each.case}, {name}: {other:.3f} (the other)")
    drawing.add(
        "circle",
        {"cx": scale(value), "cy": y, "r": 4.5, "fill": shade, "class": "mark"},
        title=f"{each.case}, {name}: {value:.3f}",
    )
