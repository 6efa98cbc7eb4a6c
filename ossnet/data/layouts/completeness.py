"""What a layout did not see or ask: scans that belong to no case, endings that others do not find."""

import logging
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ossnet.data.imaging.scan_files import SUFFIXES, halves, image_suffix, looks_like_scan, stem
from ossnet.data.layouts.modalities import channel_names
from ossnet.data.layouts.source import Source, list_visible
from ossnet.errors import UserError, printable

logger = logging.getLogger(__name__)

_TEST_FOLDER = re.compile(r"(images|labels|infers?|pred)?ts|test.*", re.IGNORECASE)
"""Folders of scans that are not for training."""
_SHOWN = 3


def complete(source: Source) -> Source:
    """The source with ids that can be printed, keys of their own for what is unmatched, and more warnings."""
    cases = tuple(replace(case, id=printable(case.id), group=printable(case.group)) for case in source.cases)
    ids = {case.id for case in cases}
    unmatched = {_apart(printable(name), ids, error): error for name, error in source.unmatched.items()}
    modalities = channel_names(source.modalities)
    source = replace(source, cases=cases, unmatched=unmatched, modalities=modalities)
    left_out = tuple(_left_out(source))
    if source.layout == "csv":  # the table itself says which files count
        for note in left_out:
            logger.info("note: %s", note)
        left_out = ()
    return replace(source, warnings=(*source.warnings, *_odd_endings(source), *left_out))


def _apart(name: str, ids: set[str], error: UserError) -> str:
    """A key that is no case's id, as cases are excluded by it."""
    return f"{name} ({Path(error.where).name})" if name in ids else name


def _odd_endings(source: Source) -> Iterator[UserError]:
    endings = [(file, image_suffix(file) or SUFFIXES[0]) for file in _used(source)]
    odd = [(file, ending) for file, ending in endings if ending not in SUFFIXES]
    if odd:
        file, ending = odd[0]
        yield UserError(
            file,
            expected=f"the ending {ending.lower()}",
            found=f"{ending}{_more(len(odd) - 1)}",
            remedy="rename it, as other programs look for lower case; here it is read all the same",
        )


def _left_out(source: Source) -> Iterator[UserError]:
    """Scans beside those of the cases, and in folders beside theirs, of which nothing has been said."""
    used = {half for file in _used(source) for half in halves(_absolute(file))}
    reported = {_absolute(error.where) for error in source.unmatched.values()}
    left = [
        entry
        for folder in _folders(source, reported)
        for entry in list_visible(folder)
        if looks_like_scan(entry)
        and not {_absolute(entry), _absolute(folder)} & reported
        and _absolute(entry) not in used
        and stem(entry) not in source.unmatched
        and not entry.is_dir()
    ]
    if left:
        names = ", ".join(str(_short(entry, source.root)) for entry in left[:_SHOWN])
        yield UserError(
            source.root,
            expected="every scan to belong to a case",
            found=f"{len(left)} that do not ({names}{', ...' if len(left) > _SHOWN else ''})",
            remedy="add or move them; they are left out",
        )


def _folders(source: Source, reported: set[Path]) -> list[Path]:
    """The folders of the cases' files, the root, and those beside them that may be read."""
    root = _absolute(source.root)
    own = {_absolute(file).parent for file in _used(source)}
    inside = {folder for folder in own if root in folder.parents}
    beside = {
        entry
        for folder in {folder.parent for folder in inside}
        for entry in _readable(folder)
        if not _TEST_FOLDER.fullmatch(entry.name) and entry not in reported
    }
    return sorted(folder for folder in {root, *own, *beside} if os.access(folder, os.R_OK | os.X_OK))


def _readable(folder: Path) -> list[Path]:
    try:
        return [entry for entry in list_visible(folder) if entry.is_dir()]
    except (OSError, UserError):
        return []


def _used(source: Source) -> Iterator[Path]:
    for case in source.cases:
        yield from case.images
        if case.label is not None:
            yield case.label


def _short(file: Path, root: Path) -> Path:
    here = _absolute(root)
    return file.relative_to(here) if file.is_relative_to(here) else file


def _more(count: int) -> str:
    return f" and {count} more" if count else ""


def _absolute(path: Path | str) -> Path:
    """Without following links, as those to nowhere count too."""
    return Path(os.path.normpath(Path(path).absolute()))
