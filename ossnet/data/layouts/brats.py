"""BraTS: a folder a case or all cases in one, a suffix for each file, named as in 2018-2021 or in 2023."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ossnet.data.imaging.nifti import read_header, read_labels
from ossnet.data.imaging.scan_files import SUFFIXES, image_suffix, looks_like_scan, stem
from ossnet.data.layouts.modalities import channel_names
from ossnet.data.layouts.source import Case, Source, list_visible, unreadable
from ossnet.errors import UserError


@dataclass(frozen=True)
class _Naming:
    """How one generation of the challenge names files and numbers enhancing tumour."""

    suffixes: tuple[str, ...]
    """The suffix of each modality, in MSD's order of the same four."""
    label: str
    enhancing: int


@dataclass(frozen=True)
class _CaseFiles:
    """Location of a case's files: a folder of its own, or one shared with others."""

    folder: Path
    case: str
    shared: bool


_BRATS_2018 = _Naming(("_flair", "_t1", "_t1ce", "_t2"), "_seg", 4)
_BRATS_2023 = _Naming(("-t2f", "-t1n", "-t1c", "-t2w"), "-seg", 3)
_NAMINGS = (_BRATS_2018, _BRATS_2023)
_IMAGE_SUFFIXES = tuple(suffix for naming in _NAMINGS for suffix in naming.suffixes)
_ENDS = (*SUFFIXES, *(end.upper() for end in SUFFIXES))
_LABELS_READ = 5  # label files that are read to find the number of enhancing tumour


def read_brats(path: Path) -> Source:
    """Read case folders, a folder with the files of all cases, or one case folder."""
    every = {files.case: files for files in reversed(find_brats_cases(path))}
    naming = _brats_naming(path, list(every.values()))
    found = [
        {suffix for suffix in naming.suffixes if _brats_file(files, suffix).is_file()}
        for files in every.values()
    ]
    # A modality counts where half the cases have it; a case without it is reported when it is read.
    suffixes = [
        suffix for suffix in naming.suffixes if sum(suffix in each for each in found) * 2 >= len(every)
    ]
    cases = [_brats_case(files, suffixes, naming) for files in every.values()]
    return Source(
        root=path,
        layout="brats",
        modalities=channel_names(suffix[1:] for suffix in suffixes),
        labels={"necrosis": 1, "edema": 2, "enhancing": _enhancing(cases, naming)},
        cases=tuple(sorted(cases, key=lambda case: case.id)),
        unmatched=_unmatched(path, list(every.values()), suffixes[0], naming),
    )


def find_brats_cases(path: Path) -> list[_CaseFiles]:
    """The cases below a folder, or the folder itself if it is one."""
    flat = _prefixes(path)
    inner = [
        _CaseFiles(folder, folder.name, shared=False)
        for folder in list_visible(path)
        if folder.is_dir() and _may_be_read(folder) and _prefixes(folder)
    ]
    if len(flat) == 1 and not inner:
        return [_CaseFiles(path, path.resolve().name, shared=False)]
    return [*(_CaseFiles(path, prefix, shared=True) for prefix in flat), *inner]


def _prefixes(folder: Path) -> list[str]:
    """The text before the suffix of a modality in the names of a folder's files."""
    names = [stem(file) for file in list_visible(folder) if image_suffix(file)]
    found = {name.removesuffix(end) for name in names for end in _IMAGE_SUFFIXES if name.endswith(end)}
    return sorted(found)


def _may_be_read(folder: Path) -> bool:
    return os.access(folder, os.R_OK | os.X_OK)


def _unmatched(path: Path, every: Sequence[_CaseFiles], suffix: str, naming: _Naming) -> dict[str, UserError]:
    """Folders and files named like cases that are none."""
    if [files.folder for files in every] == [path] and not every[0].shared:
        return {}
    folders = {files.folder for files in every}
    flat = {files.case for files in every if files.shared}
    ours = {f"{case}{end}" for case in flat for end in (*naming.suffixes, naming.label)}
    unmatched: dict[str, UserError] = {}
    for entry in list_visible(path):
        if entry.is_dir() and entry.name in flat:
            unmatched[f"{entry.name} (again)"] = UserError(
                entry, expected="the case once", found=f"its files in {path} too", remedy="keep one of them"
            )
        elif entry.is_dir() and not _may_be_read(entry):
            unmatched[entry.name] = unreadable(entry, "folder")
        elif entry.is_dir() and entry not in folders:
            unmatched[entry.name] = UserError(
                entry, expected=f"{entry.name}{suffix}.nii.gz or the like", found="none", remedy="add it"
            )
        elif entry.is_symlink() and not entry.exists() and stem(entry) not in ours:
            unmatched[entry.name] = UserError(
                entry,
                expected="a case's folder or file",
                found=f"a link to {entry.readlink()}, which is not there",
                remedy="get what it points to, or remove it",
            )
        elif looks_like_scan(entry) and (stem(entry) not in ours or not image_suffix(entry)):
            unmatched[entry.name] = UserError(
                entry,
                expected="the images of its case in the same folder",
                found="none",
                remedy="add them or remove the file",
            )
    return unmatched


def _brats_naming(path: Path, every: Sequence[_CaseFiles]) -> _Naming:
    namings = [
        naming
        for naming in _NAMINGS
        if any(_brats_file(files, suffix).is_file() for files in every for suffix in naming.suffixes)
    ]
    if len(namings) > 1:
        raise UserError(
            path,
            expected="one BraTS naming",
            found="that of 2018 (_flair) and of 2023 (-t2f)",
            remedy="put them into two folders",
        )
    if not namings:
        raise UserError(
            path,
            expected="folders with files such as case_flair.nii.gz",
            found="none",
            remedy="check --layout",
        )
    return namings[0]


def _brats_case(files: _CaseFiles, suffixes: Sequence[str], naming: _Naming) -> Case:
    label = _brats_file(files, naming.label)
    return Case(
        id=files.case,
        images=tuple(_brats_file(files, suffix) for suffix in suffixes),
        label=label if label.is_file() or label.is_symlink() else None,
        group=_brats_patient(files.case),
    )


def _brats_patient(case: str) -> str:
    """`BraTS-GLI-00006-001` is a later scan of patient `BraTS-GLI-00006`; older names have no time point."""
    parts = case.split("-")
    return "-".join(parts[:-1]) if len(parts) == 4 else case


def _brats_file(files: _CaseFiles, suffix: str) -> Path:
    """The file of this suffix: named as the case, else the only one, else the path where it should be."""
    folder = files.folder
    expected = [folder / f"{files.case}{suffix}{end}" for end in _ENDS]
    if found := [path for path in expected if path.is_file()]:
        return found[0]
    named_otherwise = [
        path for path in list_visible(folder) if image_suffix(path) and stem(path).endswith(suffix)
    ]
    return named_otherwise[0] if len(named_otherwise) == 1 and not files.shared else expected[0]


def _enhancing(cases: Sequence[Case], naming: _Naming) -> int:
    """The value of enhancing tumour, 3 or 4, by some of the labels; by the naming where they disagree.

    Copies of one challenge's data exist with the numbers of another.
    """
    labels = [case.label for case in cases if case.label is not None]
    votes = [_vote(label) for label in labels[:: max(1, len(labels) // _LABELS_READ)][:_LABELS_READ]]
    threes, fours = votes.count(3), votes.count(4)
    return naming.enhancing if threes == fours else 3 if threes > fours else 4


def _vote(label: Path) -> int | None:
    """3 or 4 where a label holds one of them alone."""
    try:
        planes = read_labels(read_header(label))
    except UserError:
        return None  # reported when the case is used
    there = [value for value in (3, 4) if any((plane == value).any() for plane in planes)]
    return there[0] if len(there) == 1 else None
