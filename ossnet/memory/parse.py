"""Sizes of memory as people write them."""

import re

from ossnet.errors import UserError

_UNITS = {
    unit: base**power
    for base, units in ((1000, ("b", "kb", "mb", "gb", "tb")), (1024, ("b", "kib", "mib", "gib", "tib")))
    for power, unit in enumerate(units)
}


def parse_memory(text: str) -> int:
    """`8GiB`, `8GB`, `500 MB` or `8` (GiB), in bytes.

    Raises:
        UserError: something else, or nothing at all.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?i?b)?", text.strip().lower())
    size = round(float(match[1]) * _UNITS.get(match[2] or "gib", 0)) if match else 0
    if size < 1:
        raise UserError(
            f"memory {text!r}", expected="a number above 0 with a unit after it, as in 8GiB or 500MB"
        )
    return size
