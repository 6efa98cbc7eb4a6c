"""Sizes of memory as people write them."""

import re

from ossnet.errors import UserError

_UNITS = {
    unit: base**power
    for base, units in ((1000, ("b", "kb", "mb", "gb", "tb")), (1024, ("b", "kib", "mib", "gib", "tib")))
    for power, unit in enumerate(units)
}


def parse_memory(text: str) -> int:
    """`8GiB`, `8 GB` or `500 MB`, in bytes; `8G` and `8Gi` are the same as with a B.

    Examples:
        >>> parse_memory("8GiB"), parse_memory("8 GB")
        (8589934592, 8000000000)

    Raises:
        UserError: something else, such as a number without a unit, or nothing at all.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]i?b?|b)?", text.strip().lower())
    number, unit = match.groups() if match else ("0", None)
    size = 0 if unit is None else round(float(number) * _UNITS[unit if unit.endswith("b") else f"{unit}b"])
    if size < 1:
        bare = match is not None and unit is None and float(number) > 0
        raise UserError(
            f"memory {text!r}",
            expected="a number above 0 with a unit after it, as in 8GiB or 500MB",
            remedy=f"write {number}GiB for gibibytes or {number}GB for gigabytes" if bare else None,
        )
    return size
