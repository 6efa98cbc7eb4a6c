"""Which files are which case: from what a person points at to a list of images a scan, in task order."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ossnet.data import Source, Task, read_source
from ossnet.data.imaging.nifti import SUFFIXES, read_header, stem
from ossnet.data.layouts.modalities import modality_name
from ossnet.errors import UserError


@dataclass(frozen=True)
class ScanInput:
    """One case to predict, or the reason why it cannot be."""

    case: str
    images: tuple[Path, ...] = ()
    problem: str | None = None


def find_scans(paths: Sequence[Path], task: Task) -> list[ScanInput]:
    """The cases that these files and folders hold.

    A folder is read by its layout (`dataset.json`, BraTS) or else as the NIfTI files in it. A file is a case
    of its own if it holds all modalities; files of one modality each are put together by what stands before
    the modality in their names (`case_flair.nii.gz`, `case-t2f.nii.gz`, `case_0000.nii.gz`).

    Raises:
        UserError: a path does not exist, nothing is found, or two cases would have the same name.
    """
    scans: list[ScanInput] = []
    for path in paths:
        if not path.exists():
            msg = f"{path}: no such file or folder"
            raise UserError(msg)
    for folder in (path for path in paths if path.is_dir()):
        scans += _from_folder(folder, task)
    scans += _from_files([path for path in paths if not path.is_dir()], task)
    names = [scan.case for scan in scans]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        msg = f"two inputs would both be written as {twice}: predict them into folders of their own"
        raise UserError(msg)
    return scans


def _from_folder(folder: Path, task: Task) -> list[ScanInput]:
    try:
        source = read_source(folder)
    except UserError:
        files = sorted(path for path in folder.iterdir() if _is_image(path))
        if not files:
            msg = f"{folder}: expected NIfTI files, a case's folder or a data set, found none of them"
            raise UserError(msg) from None
        return _from_files(files, task)
    problem = _mismatch(source, task)
    if problem is not None:
        return [ScanInput(case.id, problem=f"{folder}: {problem}") for case in source.cases]
    if len(source.cases[0].images) == 1:
        return [ScanInput(case.id, case.images) for case in source.cases]
    places = [_place(name, source.modalities) or 0 for name in task.modalities]
    return [ScanInput(case.id, tuple(case.images[place] for place in places)) for case in source.cases]


def _mismatch(source: Source, task: Task) -> str | None:
    """Why a data set's images do not serve the task; a single modality serves whatever its name."""
    if len(source.modalities) == len(task.modalities) == 1:
        return None
    places = [_place(name, source.modalities) for name in task.modalities]
    expected, found = ", ".join(task.modalities), ", ".join(source.modalities)
    if None in places:
        return f"expected the modalities {expected}, found {found}"
    if len(source.cases[0].images) == 1 and places != list(range(len(source.modalities))):
        return f"expected 4-D images with the channels {expected}, found {found}: reorder them"
    return None


def _from_files(files: Sequence[Path], task: Task) -> list[ScanInput]:
    scans: list[ScanInput] = []
    groups: dict[str, dict[int, Path]] = {}
    for path in files:
        prefix, place = _recognize(path, task)
        try:
            whole = len(task.modalities) == 1 or read_header(path).channels > 1
        except UserError as error:
            scans.append(ScanInput(stem(path), problem=str(error)))
            continue
        if whole or place is None:
            scans.append(ScanInput(stem(path), (path,)))
        else:
            groups.setdefault(prefix, {})[place] = path
    return scans + [_together(prefix, found, task) for prefix, found in groups.items()]


def _together(prefix: str, found: dict[int, Path], task: Task) -> ScanInput:
    missing = [name for place, name in enumerate(task.modalities) if place not in found]
    if missing:
        names = ", ".join(path.name for path in found.values())
        return ScanInput(prefix, problem=f"{prefix}: no file for {', '.join(missing)} beside {names}")
    return ScanInput(prefix, tuple(found[place] for place in range(len(task.modalities))))


def _recognize(path: Path, task: Task) -> tuple[str, int | None]:
    """What stands before the modality in a file's name, and the place of that modality in the task."""
    name = stem(path)
    for mark in "_-":
        prefix, found, modality = name.rpartition(mark)
        if not found:
            continue
        if len(modality) == 4 and modality.isdigit() and int(modality) < len(task.modalities):
            return prefix, int(modality)
        place = _place(modality, task.modalities)
        if place is not None:
            return prefix, place
    return name, None


def _place(modality: str, modalities: Sequence[str]) -> int | None:
    wanted = modality_name(modality).lower()
    return next(
        (place for place, each in enumerate(modalities) if modality_name(each).lower() == wanted), None
    )


def _is_image(path: Path) -> bool:
    """Whether a folder's entry is a scan; labels are told by how every layout names them."""
    label = stem(path).lower().endswith(("_seg", "-seg"))
    return path.is_file() and path.name.endswith(SUFFIXES) and not path.name.startswith(".") and not label
