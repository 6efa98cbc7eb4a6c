"""Bars: how values are distributed, and how much each of several names comes to."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ossnet.output.charts.drawing import Drawing
from ossnet.output.charts.scale import Scale, number

if TYPE_CHECKING:
    from markupsafe import Markup

_BINS = 16


def histogram(values: Sequence[float], *, label: str) -> "Markup":
    """How often values occur, in 16 bins of one width; a tooltip gives each bin and its count.

    Args:
        values: finite ones, of which at least two differ.
    """
    width, height, bottom = 160.0, 80.0, 62.0
    drawing = Drawing(width, height, f"histogram: {label}")
    low, high = min(values), max(values)
    bins = [0] * _BINS
    for value in values:
        bins[min(int(_BINS * (value - low) / (high - low)), _BINS - 1)] += 1
    step, across = (width - 8) / _BINS, (high - low) / _BINS
    for position, count in enumerate(bins):
        if not count:
            continue
        tall = max((bottom - 4) * count / max(bins), 2.0)
        place: dict[str, str | float | int] = {
            "x": 4 + position * step,
            "y": bottom - tall,
            "width": step - 1.5,
        }
        first = low + position * across
        title = f"{number(first)} to {number(first + across)}: {count} {'case' if count == 1 else 'cases'}"
        drawing.add("rect", place | {"height": tall, "class": "bar"}, title=title)
    drawing.add("line", {"x1": 4, "x2": width - 4, "y1": bottom, "y2": bottom, "class": "base"})
    drawing.text(4, height - 4, number(low), anchor="start")
    drawing.text(width - 4, height - 4, number(high), anchor="end")
    return drawing.markup()


def bars(values: Mapping[str, float], *, label: str) -> "Markup":
    """A bar for each name, from 0 to 1, with the value at its end; in the order given."""
    width, left, row = 440.0, 170.0, 24.0
    drawing = Drawing(width, row * len(values) + 8, label)
    scale = Scale(0.0, 1.0, left, width - 46)
    for position, (name, value) in enumerate(values.items()):
        top = 4 + position * row
        shown = name if len(name) <= 25 else f"…{name[-24:]}"
        drawing.text(left - 8, top + 15, shown, anchor="end", kind="name")
        place: dict[str, str | float | int] = {"x": left, "y": top + 3, "height": row - 8, "class": "bar"}
        drawing.add(
            "rect", place | {"width": max(scale(value) - left, 1.0)}, title=f"{name}: {number(value)}"
        )
        drawing.text(scale(value) + 6, top + 15, f"{value:.2f}", anchor="start")
    return drawing.markup()
