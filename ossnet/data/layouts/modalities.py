"""Names of modalities: one table for every layout, and for the names of files to predict."""

import re
from collections.abc import Iterable, Sequence

from ossnet.errors import UserError
from ossnet.output.file_names import unique_names

_ALIASES = {
    "FLAIR": ("flair", "t2f"),
    "T1w": ("t1w", "t1", "t1n"),
    "T1gd": ("t1gd", "t1ce", "t1c"),
    "T2w": ("t2w", "t2"),
    "CT": ("ct",),
}
"""The name used here, and in lower case how MSD, nnU-Net and the generations of BraTS write it."""
_NAMES = {alias: name for name, aliases in _ALIASES.items() for alias in aliases}


def modality_name(name: str) -> str:
    """A modality as every layout here calls it; an unknown name stays as it is."""
    return _NAMES.get(name.lower(), name)


def is_modality(name: str) -> bool:
    """Whether a name is one of those in the table, however it is written."""
    return name.lower() in _NAMES


def modality_order(name: str) -> tuple[int, str]:
    """A key that sorts modalities as in the table, others behind them by name."""
    order = list(_ALIASES)
    known = modality_name(name)
    return (order.index(known) if known in order else len(order)), name


def channel_names(names: Iterable[str]) -> tuple[str, ...]:
    """The names of a source's channels, in order, of which no two are equal, even but for case.

    Names that would be get the channel's number as nnU-Net writes it: MRI, MRI becomes MRI_0000, MRI_0001.
    """
    known = [modality_name(name.strip()) or "channel" for name in names]
    return tuple(unique_names(known, (f"_{number:04d}" for number in range(len(known)))))


def renamed_channels(names: Sequence[str], where: str) -> list[UserError]:
    """A warning where channels of one name, or without one, are called otherwise by `channel_names`.

    Args:
        names: the channels' names as the source writes them.
        where: the file and field that they are from.
    """
    called = channel_names(names)
    changed = [
        f"channel {number} {new}"
        for number, (name, new) in enumerate(zip(names, called, strict=True))
        if new != modality_name(name.strip())
    ]
    if not changed:
        return []
    return [
        UserError(
            where,
            expected="channels of different names",
            found="some that are equal, even if only but for case or as names of one modality, or empty",
            remedy=f"rename them; here they are told apart by number and called {', '.join(changed)}",
        )
    ]


def base_name(channel: str) -> str:
    """A channel's name without the number that `channel_names` may have given it."""
    return re.sub(r"_\d{4}$", "", channel)
