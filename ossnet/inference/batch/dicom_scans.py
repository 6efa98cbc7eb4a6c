"""The cases of DICOM files and folders: the series that a task's modalities are."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from os.path import commonpath
from pathlib import Path

from ossnet.data import Task
from ossnet.data.imaging.dicom import DicomSeries, find_series
from ossnet.data.layouts.modalities import channel_names, is_modality, modality_name, modality_order
from ossnet.errors import UserError
from ossnet.inference.batch.scan_input import ScanInput


def dicom_scans(paths: Sequence[Path], task: Task) -> list[ScanInput]:
    """The cases below folders, or of files' series; an image is called by the first file of its series.

    A task of one modality has each series as a case. Of several the series of a study are a case, each
    known by a word of its description or of its folder's name, as in `AX T2 FLAIR`.

    Raises:
        UserError: a path without a volume, or the reasons of `find_series`.
    """
    found = _series(paths)
    if len(task.modalities) == 1:
        shared = Counter(each.folder for each in found)
        return [ScanInput(_name(each, alone=shared[each.folder] == 1), (each.files[0],)) for each in found]
    studies: dict[str, list[DicomSeries]] = {}
    for each in found:
        studies.setdefault(each.study, []).append(each)
    return [_of_study(series, task) for series in studies.values()]


def _series(paths: Iterable[Path]) -> list[DicomSeries]:
    found: list[DicomSeries] = []
    for path in paths:
        if any(path in each.files for each in found):
            continue
        below = find_series(path)
        if not below:
            raise UserError(path, expected="a DICOM series of at least two slices", found="none")
        found += below
    return found


def _of_study(series: Sequence[DicomSeries], task: Task) -> ScanInput:
    names = channel_names(task.modalities)
    known = [_modality(each, [name.lower() for name in names]) for each in series]
    folder = Path(commonpath([each.folder for each in series]))
    if all(known.count(name.lower()) == 1 for name in names):
        return ScanInput(folder.name, tuple(series[known.index(name.lower())].files[0] for name in names))
    error = UserError(
        folder,
        expected=f"one DICOM series for each of {', '.join(names)}",
        found=", ".join(each.description or each.folder.name for each in series),
        remedy="put each series into a folder that is called by its modality, and the others elsewhere",
    )
    return ScanInput(folder.name, error=str(error))


def _modality(series: DicomSeries, wanted: Sequence[str]) -> str | None:
    """The modality that the description names, or else the folder; FLAIR where T2 is named too."""
    for text in (series.description, series.folder.name):
        words = re.findall(r"[A-Za-z0-9]+", text)
        pairs = [first + second for first, second in pairwise(words)]  # T1 Gd
        for candidates in (pairs, words):
            known = {modality_name(each).lower() for each in candidates if is_modality(each)}
            known |= {each.lower() for each in candidates} & set(wanted)
            if known:
                return min(known, key=modality_order)
    return None


def _name(series: DicomSeries, *, alone: bool) -> str:
    """What a case is called: nothing that names a patient, unless the folder does."""
    if alone or not series.description:
        return series.folder.name
    return f"{series.folder.name}_{series.description}"
