"""Folders of scans as people have them: which files are one case, which modality each is, which labels count.

Files are paired by case id, never by their place in a listing.
"""

import logging
from pathlib import Path

from ossnet.data.layouts.bids import is_bids, read_bids
from ossnet.data.layouts.brats import find_brats_cases, read_brats
from ossnet.data.layouts.completeness import complete
from ossnet.data.layouts.csv_table import is_case_table, read_case_table
from ossnet.data.layouts.folders import is_folders, read_folders
from ossnet.data.layouts.lits import is_lits, read_lits
from ossnet.data.layouts.msd import is_msd, read_msd
from ossnet.data.layouts.nnunet import is_nnunet, read_nnunet
from ossnet.data.layouts.outside import without_outside
from ossnet.data.layouts.source import Case, Layout, Source, list_visible
from ossnet.errors import UserError
from ossnet.plugins import Group

__all__ = ["Case", "Layout", "Source", "check_layout", "layouts", "read_source"]

logger = logging.getLogger(__name__)

_LAYOUTS = (
    Layout("nnunet", "dataset.json with imagesTr/case_0000.nii.gz", is_nnunet, read_nnunet),
    Layout("msd", "dataset.json", is_msd, read_msd),
    Layout("csv", "a table with a column case", is_case_table, read_case_table),
    Layout("bids", "sub-01/anat/sub-01_FLAIR.nii.gz", is_bids, read_bids),
    Layout("brats", "case_flair.nii.gz", lambda path: bool(find_brats_cases(path)), read_brats),
    Layout("lits", "volume-0.nii", is_lits, read_lits),
    Layout("folders", "patient19/FLAIR.nii.gz", is_folders, read_folders),
)


def _check_plugin(name: str, value: object) -> Layout:
    if not isinstance(value, Layout):
        raise ValueError(f"expected an ossnet.data.layouts.Layout, found {value!r}")
    if value.name != name:
        raise ValueError(f"expected a layout named {name}, found {value.name}")
    return value


_PLUGINS = Group(
    "ossnet.layouts", check=_check_plugin, built_in=("auto", *(layout.name for layout in _LAYOUTS))
)


def layouts() -> dict[str, Layout]:
    """Every layout by name, in the order in which they are tried: the most explicit description first, and
    those of installed packages last."""
    return {layout.name: layout for layout in (*_LAYOUTS, *_PLUGINS.plugins().values())}


def read_source(path: Path, layout: str = "auto", *, allow_outside: bool = False) -> Source:
    """Understand a folder of scans; opens no image, and labels only where nothing else gives their values.

    Args:
        path: a folder, or a CSV table.
        layout: `msd` (`dataset.json`, 3-D and 4-D images), `brats` (a folder a case, one such folder or all
            cases in one, in the naming of 2018-2021 or of 2023), `lits` (`volume-N`, `segmentation-N`),
            `nnunet` (`imagesTr/case_0000`, `labelsTr/case`, `dataset.json` of either version), `csv` (a table
            of cases), `bids` (`sub-01/anat`, labels there or in `derivatives`), `folders` (one a patient, a
            file a modality), the name of an installed layout, or `auto`.
        allow_outside: whether cases may have files that lie outside the folder, or that of the table.

    Raises:
        UserError: no such folder, a layout that cannot be recognized, a broken description, no cases.
    """
    check_layout(layout)
    known = layouts()
    table = path.is_file() and path.suffix.lower() == ".csv"
    if not path.is_dir() and not table:
        raise UserError(
            path,
            expected="a folder of scans",
            found="a file" if path.exists() else "no folder",
            remedy="give the folder that holds the scans",
        )
    if layout == "auto":
        layout = "csv" if table else _recognize(path, known)
    if table and layout != "csv":
        raise UserError(
            path, expected=f"a folder for the layout {layout}", found="a table", remedy="leave --layout out"
        )
    source = complete(_read(known[layout], path))
    source = source if allow_outside else without_outside(source)
    if not source.cases:
        reasons = [str(error) for error in source.unmatched.values()]
        raise UserError(
            path,
            expected=f"cases in the {layout} layout",
            found=f"none: {reasons[0]}" if reasons else "none",
            remedy=None if reasons else "check the folder or --layout",
        )
    return source


def _read(layout: Layout, path: Path) -> Source:
    """Read a source; an installed layout that fails is named with its package."""
    if layout in _LAYOUTS:
        return layout.read(path)
    try:
        source = layout.read(path)
        found = type(source).__name__
    except UserError:
        raise
    except Exception as error:
        source, found = None, f"{type(error).__name__}: {error}"
    if not isinstance(source, Source):
        raise UserError(
            path,
            expected=f"{_PLUGINS.origin(layout.name)} to give a Source",
            found=found,
            remedy="repair the package, or give another --layout",
        )
    return source


def check_layout(name: str) -> None:
    """Reject a name of no layout.

    Raises:
        UserError: names those there are.
    """
    known = ["auto", *layouts()]
    if name not in known:
        raise UserError("--layout", expected=_either(known), found=repr(name), remedy="choose one of them")


def _recognize(path: Path, known: dict[str, Layout]) -> str:
    for layout in _LAYOUTS:
        if layout.recognizes(path):
            return layout.name
    installed = [name for name in known if name in _PLUGINS.plugins() and _recognizes(known[name], path)]
    if len(installed) > 1:
        raise UserError(
            path,
            expected="one installed layout to recognize it",
            found=" and ".join(map(_PLUGINS.origin, installed)),
            remedy=f"choose by --layout {installed[0]} or --layout {installed[1]}",
        )
    if installed:
        return installed[0]
    names = sorted(entry.name for entry in list_visible(path))
    if "manifest.json" in names and "cases" in names:
        raise UserError(
            path, expected="scans", found="a store, which is prepared already", remedy="give it as --data"
        )
    found = f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}" if names else "an empty folder"
    examples = _either([f"{layout.example} ({layout.name})" for layout in known.values()])
    raise UserError(
        path,
        expected=f"a known layout: {examples}",
        found=found,
        remedy="give the folder above the cases, or --layout",
    )


def _recognizes(layout: Layout, path: Path) -> bool:
    """Whether an installed layout recognizes a source; one that fails does not, and is named."""
    try:
        return bool(layout.recognizes(path))
    except UserError:
        raise
    except Exception as error:
        logger.warning(
            f"{_PLUGINS.origin(layout.name)}: expected to recognize {path} or not, "
            f"found {type(error).__name__}: {error}; it is not tried: repair or uninstall the package"
        )
        return False


def _either(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]
