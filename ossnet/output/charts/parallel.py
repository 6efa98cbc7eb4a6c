"""Parallel coordinates: an axis a parameter, a line a trial, colored by what it came to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ossnet.output.charts.drawing import Drawing
from ossnet.output.charts.scale import Scale, number

if TYPE_CHECKING:
    from markupsafe import Markup

_TOP, _BOTTOM, _STEP = 34.0, 250.0, 124.0
_SHADES = ((157, 170, 190), (62, 142, 247), (229, 72, 77))  # of the worst, the middle and the best


@dataclass(frozen=True)
class Axis:
    """A quantity, and its value for each trial that has one."""

    name: str
    values: Mapping[int, float | str]
    """By trial; words are categories."""
    log: bool = False


def parallel_coordinates(axes: Sequence[Axis], titles: Mapping[int, str]) -> "Markup":
    """Draw the trials; the last axis, of numbers, colors them. The pages' script selects along an axis.

    Args:
        titles: the tooltip of each trial that is drawn.
    """
    width = _STEP * (len(axes) - 1) + 130
    drawing = Drawing(width, 272.0, "parallel coordinates")
    columns = [_places(axis) for axis in axes]
    shades = _shades(axes[-1], titles)
    for trial in sorted(titles, key=lambda each: shades[each][1]):
        heights = [column[0].get(trial) for column in columns]
        path = "".join(
            f"{'L' if position and heights[position - 1] is not None else 'M'}{_x(position):g},{y:.1f}"
            for position, y in enumerate(heights)
            if y is not None
        )
        known = ",".join("" if y is None else f"{y:.1f}" for y in heights)
        look: dict[str, str | float | int] = {"d": path, "stroke": shades[trial][0], "class": "line"}
        drawing.add("path", look | {"data-heights": known}, title=titles[trial], trial=trial)
    for position, (axis, (_, ticks)) in enumerate(zip(axes, columns, strict=True)):
        x = _x(position)
        drawing.add("line", {"x1": x, "x2": x, "y1": _TOP, "y2": _BOTTOM, "class": "base"})
        drawing.text(x, 16, axis.name if len(axis.name) <= 18 else f"…{axis.name[-17:]}", kind="name")
        for text, y in ticks.items():
            drawing.text(x + 6, y + 4, text, anchor="start", kind="tick halo")
        place: dict[str, str | float | int] = {"x": x - 11, "y": _TOP, "width": 22, "height": _BOTTOM - _TOP}
        drawing.add("rect", place | {"class": "brush", "data-axis": position})
    return drawing.markup()


def _x(position: int) -> float:
    return 50 + position * _STEP


def _places(axis: Axis) -> tuple[dict[int, float], dict[str, float]]:
    """Where each trial's value lies, and the axis's own names and where they lie."""
    if any(isinstance(value, str) for value in axis.values.values()):
        words = sorted({str(value) for value in axis.values.values()})
        scale = Scale(-0.5, len(words) - 0.5, _BOTTOM, _TOP)
        ticks = {word: scale(place) for place, word in enumerate(words)}
        return {trial: ticks[str(value)] for trial, value in axis.values.items()}, ticks
    numbers = {trial: float(value) for trial, value in axis.values.items()}
    scale = Scale.over(numbers.values(), _BOTTOM, _TOP, log=axis.log)
    few = sorted(set(numbers.values()))
    named = few if len(few) <= 4 else scale.ticks(5)
    return {trial: scale(value) for trial, value in numbers.items()}, {
        number(each): scale(each) for each in named
    }


def _shades(axis: Axis, titles: Mapping[int, str]) -> dict[int, tuple[str, float]]:
    """The color of each trial and its place from 0 to 1 between the worst and the best."""
    known = {trial: float(axis.values[trial]) for trial in titles if trial in axis.values}
    low, high = min(known.values(), default=0.0), max(known.values(), default=0.0)
    ranks = {trial: (known.get(trial, low) - low) / ((high - low) or 1.0) for trial in titles}
    return {trial: (_mix(rank), rank) for trial, rank in ranks.items()}


def _mix(rank: float) -> str:
    first, second = (_SHADES[0], _SHADES[1]) if rank < 0.5 else (_SHADES[1], _SHADES[2])
    share = 2 * rank % 1 if rank < 1 else 1.0
    red, green, blue = (round(one + (two - one) * share) for one, two in zip(first, second, strict=True))
    return f"#{red:02x}{green:02x}{blue:02x}"
