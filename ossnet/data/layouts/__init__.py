"""Folders of scans as people have them: which files are one case, which modality each is, which labels count.

Files are paired by case id, never by their place in a listing.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from ossnet.data.layouts.brats import brats_folders, read_brats
from ossnet.data.layouts.msd import read_msd
from ossnet.data.layouts.source import Case, Source, visible
from ossnet.errors import UserError

__all__ = ["Case", "Layout", "Source", "read_source"]

Layout = Literal["auto", "msd", "brats"]


def read_source(path: Path, layout: str = "auto") -> Source:
    """Understand a folder of scans; no image is opened.

    Args:
        layout: `msd` (`dataset.json`, 3-D and 4-D images), `brats` (a folder a case, or one such folder, in
            the naming of 2018-2021 or of 2023) or `auto`.

    Raises:
        UserError: no such folder, a layout that cannot be recognised, a broken `dataset.json`, no cases.
    """
    readers: dict[str, Callable[[Path], Source]] = {"msd": read_msd, "brats": read_brats}
    if not path.is_dir():
        msg = f"{path}: folder not found; give the folder that holds the scans"
        raise UserError(msg)
    if layout == "auto":
        layout = _recognise(path)
    if layout not in readers:
        msg = f"unknown layout {layout!r}: expected auto, {' or '.join(readers)}"
        raise UserError(msg)
    source = readers[layout](path)
    if not source.cases:
        msg = f"{path}: expected cases in the {layout} layout, found none; check the folder or --layout"
        raise UserError(msg)
    return source


def _recognise(path: Path) -> str:
    if (path / "dataset.json").is_file():
        return "msd"
    if brats_folders(path):
        return "brats"
    names = sorted(entry.name for entry in visible(path))
    found = f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}" if names else "an empty folder"
    msg = (
        f"{path}: unknown layout: expected dataset.json (msd) or folders with files such as "
        f"case_flair.nii.gz (brats), found {found}; give the folder above the cases, or --layout"
    )
    raise UserError(msg)
