"""BIDS: `sub-01/anat/sub-01_FLAIR.nii.gz`, with labels beside the images or below `derivatives`.

Source: the Brain Imaging Data Structure 1.10, https://bids-specification.readthedocs.io.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from ossnet.data.imaging.scan_files import SUFFIXES, image_suffix, stem
from ossnet.data.layouts.label_values import LABELS, declared_labels, occurring_labels
from ossnet.data.layouts.modalities import channel_names, is_modality, modality_name, modality_order
from ossnet.data.layouts.source import Case, Source, list_visible

_NAME = re.compile(r"(sub-[^_]+)(?:_(ses-[^_]+))?_(.*)")
_LABEL_SUFFIXES = ("dseg", "mask", "seg")
_OF_ORGANS = re.compile(r"(desc|label)-(brain|head|skull)", re.IGNORECASE)
_DEPTH = 4  # folders between a data set of derivatives and its files


def read_bids(path: Path) -> Source:
    """Read the anatomical images of every subject and session; modalities that half of them have count."""
    images: dict[str, dict[str, Path]] = defaultdict(dict)
    labels: dict[str, list[Path]] = defaultdict(list)
    for file in _files(path):
        match = _NAME.fullmatch(stem(file))
        if match is None:
            continue
        case, suffix = "_".join(filter(None, match.groups()[:2])), match[3].rpartition("_")[2]
        if suffix in _LABEL_SUFFIXES:
            labels[case].append(file)
        elif is_modality(suffix):
            _keep_shortest(images[case], _modality(match[3], suffix), file)
    counts = Counter(name for files in images.values() for name in files)
    names = sorted((name for name, count in counts.items() if 2 * count >= len(images)), key=modality_order)
    cases = [
        Case(
            id=case,
            images=tuple(files.get(name, path / f"{case}_{name}{SUFFIXES[0]}") for name in names),
            label=_label(labels[case]),
            group=case.partition("_")[0],
        )
        for case, files in images.items()
    ]
    declared, warnings = declared_labels(path / LABELS, "the bids layout")
    return Source(
        root=path,
        layout="bids",
        modalities=channel_names(names),
        labels=declared or occurring_labels(cases, path),
        cases=tuple(sorted(cases, key=lambda case: case.id)),
        unmatched={},
        warnings=tuple(warnings),
    )


def is_bids(path: Path) -> bool:
    """Whether a folder has subjects with anatomical images."""
    return any(_NAME.fullmatch(stem(file)) for file in _anatomical(path))


def _files(path: Path) -> Iterator[Path]:
    """Anatomical files of the data set itself, then those of all below its derivatives."""
    yield from _anatomical(path)
    folders = [path / "derivatives"] if (path / "derivatives").is_dir() else []
    for _ in range(_DEPTH):
        for folder in folders:
            yield from _anatomical(folder)
        folders = [
            each
            for folder in folders
            for each in _folders(folder)
            if not each.name.startswith(("sub-", "ses-")) and each.name != "anat"
        ]


def _anatomical(path: Path) -> Iterator[Path]:
    """Files in `sub-*/anat` and `sub-*/ses-*/anat`."""
    for subject in _folders(path):
        if not subject.name.startswith("sub-"):
            continue
        for folder in (subject, *_folders(subject)):
            anatomy = folder / "anat"
            if anatomy.is_dir():
                yield from (file for file in list_visible(anatomy) if image_suffix(file))


def _folders(path: Path) -> list[Path]:
    return [entry for entry in list_visible(path) if entry.is_dir()]


def _modality(entities: str, suffix: str) -> str:
    """The modality of a file: T1w with a contrast agent is another than without."""
    name = modality_name(suffix)
    return "T1gd" if name == "T1w" and re.search(r"(^|_)ce-", entities) else name


def _keep_shortest(files: dict[str, Path], name: str, file: Path) -> None:
    """Of several files of a modality, as in runs or spaces, that with the shortest name counts."""
    if name not in files or len(file.name) < len(files[name].name):
        files[name] = file


def _label(files: Iterable[Path]) -> Path | None:
    """The label of a case: segmentations come before masks, and those of the brain are none."""
    found = [file for file in files if not _OF_ORGANS.search(file.name)]
    order = {suffix: rank for rank, suffix in enumerate(_LABEL_SUFFIXES)}
    return min(found, key=lambda file: (order[stem(file).rpartition("_")[2]], file.name), default=None)
