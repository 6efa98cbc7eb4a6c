"""The images of each scan, in task order, from the paths that a user gives."""

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ossnet.data import Source, Task, read_source
from ossnet.data.imaging.dicom import holds_dicom
from ossnet.data.imaging.nifti import read_header
from ossnet.data.imaging.scan_files import looks_like_scan, one_of_each_pair, stem
from ossnet.data.layouts import Case
from ossnet.data.layouts.modalities import base_name, channel_names, modality_name
from ossnet.data.layouts.msd import case_ids
from ossnet.data.layouts.source import list_visible
from ossnet.errors import UserError, printable
from ossnet.inference.batch.dicom_scans import dicom_scans
from ossnet.inference.batch.scan_input import ScanInput
from ossnet.output.file_names import file_names

logger = logging.getLogger(__name__)

_LABELS = ("_seg", "-seg")
"""How the names of labels end in every layout."""


def find_scans(paths: Sequence[Path], task: Task) -> list[ScanInput]:
    """The cases that these files and folders hold, each of another name; what cannot be one has an error.

    A folder is read by its layout (`dataset.json`, BraTS) or else as the NIfTI files in it; or, where there
    are DICOM files at any depth, by their series. A file is a case
    of its own if it holds all modalities; files of one modality each are put together by what stands before
    the modality in their names (`case_flair.nii.gz`, `case-t2f.nii.gz`, `case_0000.nii.gz`). Cases of one
    name are called by their folders too.

    Raises:
        UserError: a path does not exist or is given twice, or nothing is found.
    """
    for path in paths:
        if not path.exists():
            raise UserError(path, expected="a file or folder", found="no such file")
    real = [path.resolve() for path in paths]
    twice = next((path for path in paths if real.count(path.resolve()) > 1), None)
    if twice is not None:
        raise UserError(twice, expected="each input once", found="it twice", remedy="give it once")
    dicom = [path for path in paths if holds_dicom(path)]
    scans = dicom_scans(dicom, task)
    for folder in (path for path in paths if path.is_dir() and path not in dicom):
        scans += _from_folder(folder, task)
    scans += _from_files([path for path in paths if not path.is_dir() and path not in dicom], task)
    return name_apart(list({scan.images or (scan.case, scan.error): scan for scan in scans}.values()))


IMAGE = "image"
"""The column of files with all channels, where scans come in a table."""


def channel_columns(task: Task) -> list[str]:
    """The column of each channel's files, where scans come in a table; none is `image`, no two are equal."""
    names = channel_names(task.modalities)
    return [f"{name}_{number:04d}" if name.lower() == IMAGE else name for number, name in enumerate(names)]


def scan_of(images: Sequence[Path], task: Task) -> ScanInput:
    """The scan of a file for each of the task's channels, in its order, whatever the files are called."""
    prefixes = {_recognize(path, task)[0] for path in images}
    return ScanInput(prefixes.pop() if len(prefixes) == 1 else stem(images[0]), tuple(images))


def scan_of_fields(files: Mapping[str, Path], task: Task) -> ScanInput:
    """The scan of a file for each modality by its name, or of one with all of them as `image`.

    Raises:
        UserError: there is no file, or a name is no modality's.
    """
    if set(files) == {IMAGE}:
        return ScanInput(stem(files[IMAGE]), (files[IMAGE],))
    names = ", ".join(channel_names(task.modalities))
    if not files:
        raise UserError("scan", expected=f"a file for {names}, or one for all as {IMAGE}", found="none")
    parts = list[tuple[int, Path]]()
    for name, path in files.items():
        index = _index(name, task)
        if index is None:
            raise UserError(f"field {name}", expected=f"{names}, or {IMAGE} alone", found="another name")
        parts.append((index, path))
    prefixes = {_recognize(path, task)[0] for path in files.values()}
    return _together(prefixes.pop() if len(prefixes) == 1 else stem(parts[0][1]), parts, task)


def name_apart(scans: Sequence[ScanInput]) -> list[ScanInput]:
    """The scans with different names, and with names of files that differ even but for case."""
    names = [printable(scan.case) for scan in scans]
    uses = Counter(names)
    shared = [index for index, name in enumerate(names) if uses[name] > 1]
    apart = case_ids([_place(scans[index], names[index]) for index in shared], Path("/"))
    for index, name in zip(shared, apart, strict=True):
        names[index] = printable(name)
    files = file_names(names)
    return [replace(scan, case=name, file=files[name]) for scan, name in zip(scans, names, strict=True)]


def _place(scan: ScanInput, name: str) -> Path:
    """Where a case is, as the path of a file that is called as it."""
    if not scan.images:
        return Path("/", f"{name.replace(os.sep, '_')}.nii")
    image = scan.images[0].absolute()
    return image if stem(image) == name else image.with_name(f"{name.replace(os.sep, '_')}.nii")


def _from_folder(folder: Path, task: Task) -> list[ScanInput]:
    try:
        source = read_source(folder, allow_outside=True)  # what is predicted stays beside what it is of
    except UserError as error:
        if (folder / "dataset.json").exists():
            raise
        return _from_plain_folder(folder, task, error)
    left_out = [ScanInput(name, error=str(error)) for name, error in source.unmatched.items()]
    for warning in source.warnings:
        logger.warning("warning: %s", warning)
    mismatch = _mismatch(source, task, folder)
    if mismatch is not None:
        return [*(ScanInput(case.id, error=str(mismatch)) for case in source.cases), *left_out]
    order = _order(source, task) or []
    channels = len(source.modalities)
    if _by_number(source, task):
        logger.warning(
            "warning: %s: expected the modalities %s, found %s; their order counts, as no name is the same",
            folder,
            ", ".join(channel_names(task.modalities)),
            ", ".join(source.modalities),
        )
    return [*(_case_of(case, order, channels) for case in source.cases), *left_out]


def _from_plain_folder(folder: Path, task: Task, error: UserError) -> list[ScanInput]:
    """The scans in a folder of no layout, and an error for each folder below that holds some."""
    deeper = _scans_below(folder)
    found = [entry for entry in list_visible(folder) if looks_like_scan(entry) and entry not in deeper]
    labels = [entry for entry in found if stem(entry).lower().endswith(_LABELS)]
    images = one_of_each_pair(entry for entry in found if entry not in labels)
    if not images:
        expected = "NIfTI files, a case's folder or a data set"
        below = next(iter(deeper), None)
        raise UserError(
            folder,
            expected=expected,
            found="none of them" if below is None else f"some in the folder {below.name}",
            remedy=None if below is None else "give that folder",
        ) from error
    if labels:
        logger.warning(
            "warning: %s: %d files named as labels (%s) are left out", folder, len(labels), labels[0].name
        )
    below_errors = [
        ScanInput(
            inner.name,
            error=str(
                UserError(
                    inner,
                    expected="scans in the folder itself",
                    found="some in a folder below",
                    remedy="give that folder as --input too",
                )
            ),
        )
        for inner in deeper
    ]
    return [*_from_files(images, task), *below_errors]


def _scans_below(folder: Path) -> list[Path]:
    """The folders in a folder that hold scans, at any depth."""
    return [
        inner
        for inner in list_visible(folder)
        if inner.is_dir()
        and any(looks_like_scan(Path(name)) for _, _, names in os.walk(inner) for name in names)
    ]


def _mismatch(source: Source, task: Task, folder: Path) -> UserError | None:
    """Why a data set's images do not serve the task; a single modality serves whatever its name."""
    order = _order(source, task)
    expected, found = ", ".join(channel_names(task.modalities)), ", ".join(source.modalities)
    if order is None:
        return UserError(folder, expected=f"the modalities {expected}", found=found)
    if len(source.cases[0].images) == 1 and order != list(range(len(source.modalities))):
        expected = f"4-D images with the channels {expected}"
        return UserError(folder, expected=expected, found=found, remedy="reorder them")
    return None


def _order(source: Source, task: Task) -> list[int] | None:
    """The number in the source of each of the task's channels; None where that is unknown.

    Channels of one name differ by their numbers alone: then all must be the same. Where no name is the
    same, numbers count too.
    """
    wanted, there = _names(task.modalities), _names(source.modalities)
    if wanted == there or len(wanted) == len(there) == 1 or _by_number(source, task):
        return list(range(len(there)))
    repeated = any(len(set(map(base_name, names))) < len(names) for names in (wanted, there))
    if repeated or not set(wanted) <= set(there):
        return None
    return [there.index(name) for name in wanted]


def _by_number(source: Source, task: Task) -> bool:
    """Whether several channels have only their numbers in common, as where they are called otherwise."""
    wanted, there = (set(map(base_name, _names(names))) for names in (task.modalities, source.modalities))
    return len(task.modalities) == len(source.modalities) > 1 and not wanted & there


def _names(modalities: Sequence[str]) -> list[str]:
    return [name.lower() for name in channel_names(modalities)]


def _case_of(case: Case, order: Sequence[int], channels: int) -> ScanInput:
    """A case of a data set with its files in the task's order."""
    if len(case.images) == 1:
        return ScanInput(case.id, case.images)
    if len(case.images) != channels:
        found = f"{len(case.images)} files"
        error = UserError(
            case.images[0], expected=f"one file, or {channels} with a channel each", found=found
        )
        return ScanInput(case.id, error=str(error))
    return ScanInput(case.id, tuple(case.images[index] for index in order))


def _from_files(files: Sequence[Path], task: Task) -> list[ScanInput]:
    scans: list[ScanInput] = []
    parts: dict[str, list[tuple[int, Path]]] = {}
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
            parts.setdefault(prefix, []).append((index, path))
    for prefix, found in parts.items():
        scans += [_together(prefix, each, task) for each in _by_case(found)]
    return scans


def _by_case(files: Sequence[tuple[int, Path]]) -> list[list[tuple[int, Path]]]:
    """Files of one name but for the modality: one case, or one a folder where a modality is there twice."""
    if len({index for index, _ in files}) == len(files):
        return [list(files)]
    folders: dict[Path, list[tuple[int, Path]]] = {}
    for index, path in files:
        folders.setdefault(path.parent, []).append((index, path))
    return list(folders.values())


def _together(prefix: str, files: Sequence[tuple[int, Path]], task: Task) -> ScanInput:
    names = ", ".join(path.name for _, path in files)
    by_number = dict(files)
    missing = [name for index, name in enumerate(task.modalities) if index not in by_number]
    images = tuple(by_number[index] for index in sorted(by_number))
    if len(by_number) < len(files):
        error = UserError(images[0].parent / prefix, expected="one file a modality", found=names)
        return ScanInput(prefix, error=str(error))
    if missing:
        error = UserError(prefix, expected=f"a file for {', '.join(missing)}", found=f"only {names}")
        return ScanInput(prefix, error=str(error))
    return ScanInput(prefix, images)


def _recognize(path: Path, task: Task) -> tuple[str, int | None]:
    """The part of a file's name before the modality, and the index of that modality in the task."""
    name = stem(path)
    for mark in "_-":
        prefix, separator, modality = name.rpartition(mark)
        if not separator:
            continue
        if len(modality) == 4 and modality.isdecimal() and int(modality) < len(task.modalities):
            return prefix, int(modality)
        index = _index(modality, task)
        if index is not None:
            return prefix, index
    return name, None


def _index(modality: str, task: Task) -> int | None:
    wanted = modality_name(modality).lower()
    names = [name.lower() for name in channel_names(task.modalities)]
    return names.index(wanted) if wanted in names else None
