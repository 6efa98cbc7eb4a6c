"""The images of each scan, in task order, from the paths that a user gives."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ossnet.data import Source, Task, read_source
from ossnet.data.imaging.nifti import SUFFIXES, read_header, stem
from ossnet.data.layouts.modalities import modality_name
from ossnet.errors import UserError


@dataclass(frozen=True)
class ScanInput:
    """A case to predict, or the reason why it cannot be."""

    case: str
    """The case's name, which the names of its results begin with."""
    images: tuple[Path, ...] = ()
    """A file with all modalities, or a file for each in the task's order."""
    error: str | None = None
    """Why it cannot be predicted; None where it can."""


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
            raise UserError(path, expected="a file or folder", found="no such file")
    for folder in (path for path in paths if path.is_dir()):
        scans += _from_folder(folder, task)
    scans += _from_files([path for path in paths if not path.is_dir()], task)
    names = [scan.case for scan in scans]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(
            twice,
            expected="a name of its own for every case",
            found="two inputs that would be written as it",
            remedy="predict them into folders of their own",
        )
    return scans


def _from_folder(folder: Path, task: Task) -> list[ScanInput]:
    try:
        source = read_source(folder)
    except UserError:
        files = sorted(path for path in folder.iterdir() if _is_image(path))
        if not files:
            expected = "NIfTI files, a case's folder or a data set"
            raise UserError(folder, expected=expected, found="none of them") from None
        return _from_files(files, task)
    mismatch = _mismatch(source, task, folder)
    if mismatch is not None:
        return [ScanInput(case.id, error=str(mismatch)) for case in source.cases]
    if len(source.cases[0].images) == 1:
        return [ScanInput(case.id, case.images) for case in source.cases]
    order = [_index(name, source.modalities) or 0 for name in task.modalities]
    return [ScanInput(case.id, tuple(case.images[index] for index in order)) for case in source.cases]


def _mismatch(source: Source, task: Task, folder: Path) -> UserError | None:
    """Why a data set's images do not serve the task; a single modality serves whatever its name."""
    if len(source.modalities) == len(task.modalities) == 1:
        return None
    order = [_index(name, source.modalities) for name in task.modalities]
    expected, found = ", ".join(task.modalities), ", ".join(source.modalities)
    if None in order:
        return UserError(folder, expected=f"the modalities {expected}", found=found)
    if len(source.cases[0].images) == 1 and order != list(range(len(source.modalities))):
        expected = f"4-D images with the channels {expected}"
        return UserError(folder, expected=expected, found=found, remedy="reorder them")
    return None


def _from_files(files: Sequence[Path], task: Task) -> list[ScanInput]:
    scans: list[ScanInput] = []
    groups: dict[str, dict[int, Path]] = {}
    for path in files:
        prefix, index = _recognize(path, task)
        try:
            complete = len(task.modalities) == 1 or read_header(path).channels > 1
        except UserError as error:
            scans.append(ScanInput(stem(path), error=str(error)))
            continue
        if complete or index is None:
            scans.append(ScanInput(stem(path), (path,)))
        else:
            groups.setdefault(prefix, {})[index] = path
    return scans + [_together(prefix, by_modality, task) for prefix, by_modality in groups.items()]


def _together(prefix: str, files: dict[int, Path], task: Task) -> ScanInput:
    missing = [name for index, name in enumerate(task.modalities) if index not in files]
    if missing:
        names = ", ".join(path.name for path in files.values())
        error = UserError(prefix, expected=f"a file for {', '.join(missing)}", found=f"only {names}")
        return ScanInput(prefix, error=str(error))
    return ScanInput(prefix, tuple(files[index] for index in range(len(task.modalities))))


def _recognize(path: Path, task: Task) -> tuple[str, int | None]:
    """The part of a file's name before the modality, and the index of that modality in the task."""
    name = stem(path)
    for mark in "_-":
        prefix, separator, modality = name.rpartition(mark)
        if not separator:
            continue
        if len(modality) == 4 and modality.isdigit() and int(modality) < len(task.modalities):
            return prefix, int(modality)
        index = _index(modality, task.modalities)
        if index is not None:
            return prefix, index
    return name, None


def _index(modality: str, modalities: Sequence[str]) -> int | None:
    wanted = modality_name(modality).lower()
    return next(
        (index for index, each in enumerate(modalities) if modality_name(each).lower() == wanted), None
    )


def _is_image(path: Path) -> bool:
    """Whether a folder's entry is a scan; labels are recognized by the names that every layout gives them."""
    label = stem(path).lower().endswith(("_seg", "-seg"))
    return path.is_file() and path.name.endswith(SUFFIXES) and not path.name.startswith(".") and not label
