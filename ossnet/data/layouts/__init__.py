"""Folders of scans as people have them: which files are one case, which modality each is, which labels count.

Files are paired by case id, never by their place in a listing.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from ossnet.data.layouts.brats import brats_places, read_brats
from ossnet.data.layouts.csv_table import is_manifest, read_manifest
from ossnet.data.layouts.lits import is_lits, read_lits
from ossnet.data.layouts.msd import read_msd
from ossnet.data.layouts.nnunet import is_nnunet, read_nnunet
from ossnet.data.layouts.source import Case, Source, list_visible
from ossnet.errors import UserError

__all__ = ["Case", "Layout", "Source", "read_source"]

Layout = Literal["auto", "msd", "brats", "lits", "nnunet", "csv"]


def read_source(path: Path, layout: str = "auto") -> Source:
    """Understand a folder of scans; opens no image, and labels only where nothing else tells their values.

    Args:
        path: a folder, or a CSV table.
        layout: `msd` (`dataset.json`, 3-D and 4-D images), `brats` (a folder a case, one such folder or all
            cases in one, in the naming of 2018-2021 or of 2023), `lits` (`volume-N`, `segmentation-N`),
            `nnunet` (`imagesTr/case_0000`, `labelsTr/case`, `dataset.json` of either version), `csv` (a table
            of cases) or `auto`.

    Raises:
        UserError: no such folder, a layout that cannot be recognized, a broken description, no cases.
    """
    readers: dict[str, Callable[[Path], Source]] = {
        "msd": read_msd,
        "brats": read_brats,
        "lits": read_lits,
        "nnunet": read_nnunet,
        "csv": read_manifest,
    }
    table = path.is_file() and path.suffix.lower() == ".csv"
    if not path.is_dir() and not table:
        msg = f"{path}: folder not found; give the folder that holds the scans"
        raise UserError(msg)
    if layout == "auto":
        layout = "csv" if table else _recognize(path)
    if layout not in readers:
        *most, last = readers
        msg = f"unknown layout {layout!r}: expected auto, {', '.join(most)} or {last}"
        raise UserError(msg)
    if table and layout != "csv":
        msg = f"{path}: expected a folder for the layout {layout}, found a table; leave --layout out"
        raise UserError(msg)
    source = readers[layout](path)
    if not source.cases:
        msg = f"{path}: expected cases in the {layout} layout, found none; check the folder or --layout"
        raise UserError(msg)
    return source


def _recognize(path: Path) -> str:
    """The most explicit description counts: `dataset.json`, then a table, then the names of files."""
    if (path / "dataset.json").is_file():
        return "nnunet" if is_nnunet(path) else "msd"
    recognizers: dict[str, Callable[[Path], object]] = {
        "csv": is_manifest,
        "brats": brats_places,
        "lits": is_lits,
    }
    for layout, recognizes in recognizers.items():
        if recognizes(path):
            return layout
    names = sorted(entry.name for entry in list_visible(path))
    found = f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}" if names else "an empty folder"
    known = (
        "dataset.json (msd, nnunet), a table with a column case (csv), "
        "files such as case_flair.nii.gz (brats) or volume-0.nii (lits)"
    )
    remedy = "give the folder above the cases, or --layout"
    msg = f"{path}: unknown layout: expected {known}, found {found}; {remedy}"
    raise UserError(msg)
