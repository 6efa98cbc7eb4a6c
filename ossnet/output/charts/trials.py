"""Trials of a study: what each costs and comes to, and how it got there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ossnet.output.charts.drawing import Drawing
from ossnet.output.charts.scale import Scale

if TYPE_CHECKING:
    from markupsafe import Markup

_WIDTH, _HEIGHT = 440.0, 310.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 428.0, 28.0, 264.0


@dataclass(frozen=True)
class TrialMark:
    """A trial on the trade-off of Dice against a cost."""

    trial: int
    cost: float
    dice: float
    color: str
    title: str
    """Its tooltip."""
    finished: bool
    """Hollow where it was stopped."""
    best: bool = False
    """Drawn with a ring."""


@dataclass(frozen=True)
class Curve:
    """The Dice of a trial over its epochs."""

    trial: int
    values: Mapping[float, float]
    color: str
    title: str
    finished: bool


def trade_off(
    marks: Sequence[TrialMark], *, front: Sequence[int], label: str, limit: float | None = None
) -> "Markup":
    """Dice against a cost, with the steps of the Pareto front.

    Args:
        front: positions in `marks` that no other dominates, the cheapest first.
        label: the cost and its unit.
        limit: the budget, as a line where it lies.
    """
    drawing = Drawing(_WIDTH, _HEIGHT, f"Dice against {label}")
    costs = [mark.cost for mark in marks]
    shown = [*costs, limit] if limit is not None and limit < 4 * max(costs, default=limit) else costs
    wide = max(costs, default=1.0) > 8 * max(min(costs, default=1.0), 1e-9)
    x = Scale.over(shown, _LEFT, _RIGHT, log=wide)
    y = Scale.over([mark.dice for mark in marks], _BOTTOM, _TOP)
    drawing.axes(x, y, labels=(label, "Dice (validation)"))
    if limit is not None and x.low <= limit <= x.high:
        place: dict[str, str | float | int] = {"x1": x(limit), "x2": x(limit), "y1": _TOP, "y2": _BOTTOM}
        drawing.add("line", place | {"class": "limit"}, title="the budget")
        drawing.text(x(limit) + 4, _TOP - 5, "budget", anchor="end", kind="limit-name")
    if front:
        steps = f"M{x(marks[front[0]].cost):.1f},{y(marks[front[0]].dice):.1f}"
        steps += "".join(f"H{x(marks[each].cost):.1f}V{y(marks[each].dice):.1f}" for each in front[1:])
        drawing.add("path", {"d": f"{steps}H{_RIGHT:g}", "class": "front"})
    for mark in marks:
        _mark(drawing, mark, x(mark.cost), y(mark.dice))
    return drawing.markup()


def learning_curves(curves: Sequence[Curve], *, label: str) -> "Markup":
    """A line a trial; faint and dashed where it was stopped. Epochs are whole numbers."""
    drawing = Drawing(_WIDTH, _HEIGHT, "learning curves")
    x = Scale.over([at for each in curves for at in each.values], _LEFT, _RIGHT)
    y = Scale.over([value for each in curves for value in each.values.values()], _BOTTOM, _TOP)
    drawing.axes(x, y, labels=(label, "Dice (validation)"), whole=(True, False))
    for each in curves:
        points = " ".join(f"{x(at):.1f},{y(each.values[at]):.1f}" for at in sorted(each.values))
        kind = "curve" if each.finished else "curve stopped"
        drawing.add(
            "polyline",
            {"points": points, "stroke": each.color, "class": kind},
            title=each.title,
            trial=each.trial,
        )
        for at in each.values:
            place: dict[str, str | float | int] = {
                "cx": x(at),
                "cy": y(each.values[at]),
                "r": 2.5,
                "fill": each.color,
            }
            drawing.add("circle", place, title=f"{each.title}: {each.values[at]:.4f}", trial=each.trial)
    return drawing.markup()


def _mark(drawing: Drawing, mark: TrialMark, x: float, y: float) -> None:
    place: dict[str, str | float | int] = {"cx": x, "cy": y}
    if mark.best:
        drawing.add("circle", place | {"r": 10, "class": "winner"})
    look = {"fill": mark.color} if mark.finished else {"stroke": mark.color}
    kind = "mark" if mark.finished else "hollow"
    drawing.add("circle", place | look | {"r": 5.5, "class": kind}, title=mark.title, trial=mark.trial)
