"""Figures as bytes, and what is drawn in several."""

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING

from ossnet.errors import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def png_bytes(figure: "Figure", *, dpi: int = 150) -> bytes:
    """A figure as the bytes of a PNG file."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def plain_text(text: str) -> str:
    """A user's text as Matplotlib draws it unchanged: dollars begin no formula."""
    return printable(text).replace("$", r"\$")


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """The positions of the pairs (cost, Dice) that no other pair dominates, the cheapest first."""
    front, best = list[int](), float("-inf")
    for position in sorted(range(len(points)), key=lambda each: (points[each][0], -points[each][1])):
        if points[position][1] > best:
            front.append(position)
            best = points[position][1]
    return front
