"""File names for what users name freely: cases, classes, modalities.

A name that every file system takes stays as it is. Any other becomes its harmless characters, a `~` and
twelve digits of its digest, so that different names never share a file. The way back is what is stored
beside: a store's manifest and the record of a prediction hold the name itself.
"""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

MAX_BYTES = 150
"""Bytes of a file name in UTF-8; systems take 255, which leaves room for what stands around it."""
CLASS_BYTES = 60
"""As `MAX_BYTES`, of a class's name after a case's."""
_UNSAFE = re.compile(r"[^\w .,;+=()@!-]+")  # the mark itself is among them
_DIGITS = 12
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}
_EDGES = " ."  # hidden files, and what Windows drops at the end


def file_name(name: str, *, limit: int = MAX_BYTES) -> str:
    """The part of a file's name that stands for any text; different texts give different ones.

    It has no separators, no characters or words that a file system reserves, and is never hidden, empty or
    longer than `limit` bytes.
    """
    return name if _is_safe(name, limit) else _marked(name, limit)


def file_names(names: Iterable[str], *, limit: int = MAX_BYTES) -> dict[str, str]:
    """A file name for each text, by text, that differ even where upper case and lower case are one."""
    single = {name: file_name(name, limit=limit) for name in names}
    uses = Counter(map(_folded, single.values()))
    return {name: safe if uses[_folded(safe)] == 1 else _marked(name, limit) for name, safe in single.items()}


def unique_names(names: Iterable[str], endings: Iterable[str]) -> list[str]:
    """Names of which no two are equal, even but for case: those that are get an ending of their own.

    Args:
        endings: one a name, all different, such as `_0001`.
    """
    found, ends = list(names), list(endings)
    while True:
        uses = Counter(map(_folded, found))
        if len(uses) == len(found):
            return found
        found = [
            name + end if uses[_folded(name)] > 1 else name for name, end in zip(found, ends, strict=True)
        ]


def _is_safe(name: str, limit: int) -> bool:
    return (
        bool(name)
        and not _UNSAFE.search(name)
        and name == unicodedata.normalize("NFC", name)
        and name == name.strip(_EDGES)
        and name[0] != "-"
        and name.partition(".")[0].strip().lower() not in _DEVICES
        and len(name.encode()) <= limit
    )


def _marked(name: str, limit: int) -> str:
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
    clean = _UNSAFE.sub("_", unicodedata.normalize("NFC", name)).strip(f"{_EDGES}_-")
    room = limit - _DIGITS - 1
    short = clean.encode()[:room].decode("utf-8", "ignore").rstrip(_EDGES)
    if not short or short.partition(".")[0].strip().lower() in _DEVICES:
        short = f"unnamed{short and '-'}{short}"[:room]
    return f"{short}~{digest}"


def _folded(name: str) -> str:
    """What a file system that knows no case, or one form of accents, takes a name for."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())
