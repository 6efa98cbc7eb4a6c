"""Durations as people say them."""


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
