"""Figures as bytes."""

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
