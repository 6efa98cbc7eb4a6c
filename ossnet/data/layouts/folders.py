"""A folder a patient, a file a modality: `patient19/FLAIR.nii.gz`, `patient19/seg.nii.gz`."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from ossnet.data.imaging.scan_files import image_suffix, stem
from ossnet.data.layouts.label_values import LABELS, declared_labels, occurring_labels
from ossnet.data.layouts.modalities import channel_names, is_modality, modality_order
from ossnet.data.layouts.source import Case, Source, list_visible
from ossnet.errors import UserError

_LABEL_NAMES = (
    "seg",
    "segmentation",
    "label",
    "labels",
    "mask",
    "gt",
    "ground_truth",
    "ground-truth",
    "groundtruth",
    "annotation",
    "lesion",
    "lesions",
    "tumor",
    "tumour",
)
"""How the file of the label is called, the likeliest first."""


def read_folders(path: Path) -> Source:
    """Read every folder that holds a file named like a modality; those that half of them have count."""
    folders = {folder.name: files for folder, files in _patients(path).items()}
    counts = Counter(name for files in folders.values() for name in files)
    images = [
        name for name, count in counts.items() if 2 * count >= len(folders) and name not in _LABEL_NAMES
    ]
    images.sort(key=modality_order)
    labels = [name for name in _LABEL_NAMES if counts[name]]
    label = max(labels, key=lambda name: counts[name], default=None)
    cases = [_case(path / name, files, images, label) for name, files in folders.items()]
    declared, warnings = declared_labels(path / LABELS, "the folders layout")
    return Source(
        root=path,
        layout="folders",
        modalities=channel_names(images),
        labels=declared or occurring_labels(cases, path),
        cases=tuple(sorted(cases, key=lambda case: case.id)),
        unmatched=_unmatched(path, set(folders)),
        warnings=tuple(warnings),
    )


def is_folders(path: Path) -> bool:
    """Whether a folder has one below it with files that are named like modalities."""
    return bool(_patients(path))


def _patients(path: Path) -> dict[Path, dict[str, Path]]:
    """The folders of patients, and the scans in each by their names in lower case."""
    found = {}
    for folder in list_visible(path):
        files = _scans(folder) if folder.is_dir() else {}
        if any(is_modality(name) for name in files):
            found[folder] = files
    return found


def _scans(folder: Path) -> dict[str, Path]:
    return {stem(file).lower(): file for file in list_visible(folder) if image_suffix(file)}


def _case(folder: Path, files: Mapping[str, Path], images: list[str], label: str | None) -> Case:
    """A case; files that it lacks are those that it should have, and are reported when it is read."""
    ending = image_suffix(next(iter(files.values()))) or ""
    paths = tuple(files.get(name, folder / f"{name}{ending}") for name in images)
    return Case(folder.name, paths, None if label is None else files.get(label), folder.name)


def _unmatched(path: Path, known: set[str]) -> dict[str, UserError]:
    """Folders of scans without any that is named like a modality."""
    return {
        folder.name: UserError(
            folder, expected="files such as FLAIR.nii.gz", found="other names", remedy="rename them"
        )
        for folder in list_visible(path)
        if folder.is_dir() and folder.name not in known and _scans(folder)
    }
