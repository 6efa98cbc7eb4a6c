"""The colors of classes and of series, the same on every page, overlay and mesh; background has none."""

import colorsys

_COLORS = ("#e5484d", "#30a46c", "#3e8ef7", "#f5a623", "#b16bf0", "#17b8c4", "#f2709c", "#9bbf1e")
_TURN = 0.381966  # of the circle of hues: neighbors differ most


def color(position: int) -> str:
    """The color, as `#rrggbb`, of what stands at a position, from 0: of classes the first foreground one."""
    if position < len(_COLORS):
        return _COLORS[position]
    extra = position - len(_COLORS)
    red, green, blue = colorsys.hls_to_rgb((0.05 + extra * _TURN) % 1, 0.58, 0.62)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"


def rgb(position: int) -> tuple[int, int, int]:
    """The same color in bytes."""
    text = color(position)
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)
