"""Durations and counts as people say them."""


def format_duration(seconds: float) -> str:
    """Seconds as people say them, `4.2 s`, `80 s`, `12 min` or `3 h 20 min`."""
    if seconds < 9.95:
        return f"{seconds:.2g} s"
    if seconds < 180:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 180:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"


def counted(number: float, noun: str) -> str:
    """A number and its noun, whose plural ends in `s`.

    Examples:
        >>> counted(0, "node"), counted(1, "node"), counted(3, "node"), counted(0.5, "GPU")
        ('0 nodes', '1 node', '3 nodes', '0.5 GPU')
    """
    plural = number == 0 or number > 1
    return f"{number:.15g} {noun}{'s' * plural}"
