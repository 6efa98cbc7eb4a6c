"""BraTS folders: one a case, files told apart by suffix, in the namings of 2018-2021 and of 2023."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ossnet.data.layouts.source import Case, Source, visible
from ossnet.data.nifti import SUFFIXES
from ossnet.errors import UserError


@dataclass(frozen=True)
class _Naming:
    """How one generation of the challenge names files and numbers labels."""

    suffixes: dict[str, str]
    """Suffix of each modality, in MSD's order of the same four."""
    label: str
    labels: dict[str, int]


_BRATS_2018 = _Naming(
    {"_flair": "FLAIR", "_t1": "T1w", "_t1ce": "T1gd", "_t2": "T2w"},
    "_seg",
    {"necrosis": 1, "edema": 2, "enhancing": 4},
)
_BRATS_2023 = _Naming(
    {"-t2f": "FLAIR", "-t1n": "T1w", "-t1c": "T1gd", "-t2w": "T2w"},
    "-seg",
    {"necrosis": 1, "edema": 2, "enhancing": 3},
)


def read_brats(path: Path) -> Source:
    """Read a folder of case folders, or one case folder."""
    folders = brats_folders(path)
    naming = _brats_naming(path, folders)
    found = [
        {suffix for suffix in naming.suffixes if _brats_file(folder, suffix).is_file()} for folder in folders
    ]
    # A modality counts where half the cases have it; a case without it is then told by the reader.
    suffixes = [
        suffix for suffix in naming.suffixes if sum(suffix in each for each in found) * 2 >= len(folders)
    ]
    cases = [_brats_case(folder, suffixes, naming) for folder in folders]
    left_out = {
        folder.name: f"{folder}: expected {folder.name}{suffixes[0]}.nii.gz or the like, found none; add it"
        for folder in visible(path)
        if folder.is_dir() and folder not in folders and folders != [path]
    }
    return Source(
        root=path,
        layout="brats",
        modalities=tuple(naming.suffixes[suffix] for suffix in suffixes),
        labels=naming.labels,
        cases=tuple(sorted(cases, key=lambda case: case.id)),
        left_out=left_out,
    )


def brats_folders(path: Path) -> list[Path]:
    """The case folders below a folder, or the folder itself if it is one."""
    candidates = [path, *(entry for entry in visible(path) if entry.is_dir())]
    suffixes = [*_BRATS_2018.suffixes, *_BRATS_2023.suffixes]
    found = [
        folder for folder in candidates if any(_brats_file(folder, suffix).is_file() for suffix in suffixes)
    ]
    return [path] if path in found else found


def _brats_naming(path: Path, folders: Sequence[Path]) -> _Naming:
    namings = [
        naming
        for naming in (_BRATS_2018, _BRATS_2023)
        if any(_brats_file(folder, suffix).is_file() for folder in folders for suffix in naming.suffixes)
    ]
    if len(namings) > 1:
        msg = f"{path}: expected one BraTS naming, found that of 2018 (_flair) and of 2023 (-t2f); part them"
        raise UserError(msg)
    if not namings:
        msg = f"{path}: expected folders with files such as case_flair.nii.gz, found none; check --layout"
        raise UserError(msg)
    return namings[0]


def _brats_case(folder: Path, suffixes: Sequence[str], naming: _Naming) -> Case:
    label = _brats_file(folder, naming.label)
    return Case(
        id=folder.name,
        images=tuple(_brats_file(folder, suffix) for suffix in suffixes),
        label=label if label.is_file() else None,
        group=_brats_patient(folder.name),
    )


def _brats_patient(case: str) -> str:
    """`BraTS-GLI-00006-001` is a later scan of patient `BraTS-GLI-00006`; older names have no time point."""
    parts = case.split("-")
    return "-".join(parts[:-1]) if len(parts) == 4 else case


def _brats_file(folder: Path, suffix: str) -> Path:
    """The file of this suffix: named as the folder, else the only one, else the path where it should be."""
    expected = [folder / f"{folder.name}{suffix}{end}" for end in SUFFIXES]
    if found := [path for path in expected if path.is_file()]:
        return found[0]
    named_otherwise = [
        path for end in SUFFIXES for path in visible(folder) if path.name.endswith(suffix + end)
    ]
    return named_otherwise[0] if len(named_otherwise) == 1 else expected[0]
