"""The Medical Segmentation Decathlon's layout: `dataset.json` names images, labels, modalities, classes.

MONAI's data lists and KiTS are written so too, with a folder a case.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ossnet.data.imaging.scan_files import halves, looks_like_scan, one_of_each_pair, stem
from ossnet.data.layouts.dataset_json import (
    count_cases,
    field_error,
    find_folder,
    listed_path,
    name_labels,
    numbered,
    read_json,
)
from ossnet.data.layouts.modalities import channel_names, renamed_channels
from ossnet.data.layouts.source import Case, Source, list_visible, report
from ossnet.errors import UserError
from ossnet.output.file_names import unique_names

Files = tuple[tuple[Path, ...], Path | None]


def read_msd(path: Path) -> Source:
    """Read `dataset.json`; images may be 3-D, or 4-D with the modalities on the fourth axis.

    An entry may name a list of images, one a modality. Cases are called as their first image; where several
    are called so, as their folders too.
    """
    file = path / "dataset.json"
    description = read_json(file, "the msd layout")
    modality = description.get("modality")
    modalities = [name for _, name in numbered(modality, file, "modality", '{"0": "MRI"}')]
    rows = numbered(description.get("labels"), file, "labels", '{"0": "background", "1": "liver"}')
    labels, warnings = name_labels(rows, f"{file}: labels")
    entries = description.get("training")
    if not isinstance(entries, list) or not all(map(_is_entry, entries)):
        raise field_error(file, "training", 'a list of {"image": ..., "label": ...}', entries)
    listed = [_files(path, entry) for entry in entries]
    if not any(images[0].exists() for images, _ in listed):
        find_folder(path, "imagesTr")
    labels_of = dict(reversed(listed))  # of an image that is listed twice the first entry counts
    ids = dict(zip(labels_of, case_ids([images[0] for images in labels_of], path), strict=True))
    cases = [Case(ids[images], images, label, ids[images]) for images, label in labels_of.items()]
    unmatched: dict[str, UserError] = {}
    uses = Counter(ids[images] for images, _ in listed)
    for case in (case for case, count in uses.items() for _ in range(count - 1)):
        error = UserError(
            file,
            expected=f"case {case} once under training",
            found="it twice",
            remedy="keep one of the entries",
        )
        report(unmatched, f"{case} (again)", error)
    for stray, error in _unlisted(path, cases, file):
        report(unmatched, stray, error)
    return Source(
        root=path,
        layout="msd",
        modalities=channel_names(modalities),
        labels=labels,
        cases=tuple(sorted(cases, key=lambda case: case.id)),
        unmatched=unmatched,
        warnings=(
            *warnings,
            *renamed_channels(modalities, f"{file}: modality"),
            *count_cases(description, len(cases), file),
        ),
    )


def is_msd(path: Path) -> bool:
    """Whether a folder has a `dataset.json`."""
    return (path / "dataset.json").is_file()


def case_ids(images: Sequence[Path], root: Path) -> list[str]:
    """An id for each file: its name, and the folders above it (`P0_imaging`) where others are called so."""
    uses = Counter((image.parent, stem(image)) for image in images)
    names = [stem(image) if uses[image.parent, stem(image)] == 1 else image.name for image in images]
    parts = [[*_below(image, root).parts[:-1], name] for image, name in zip(images, names, strict=True)]
    depths = [1] * len(images)
    while True:
        ids = ["_".join(each[-depth:]) for each, depth in zip(parts, depths, strict=True)]
        shared = Counter(ids)
        deeper = [
            shared[name] > 1 and depth < len(each)
            for name, depth, each in zip(ids, depths, parts, strict=True)
        ]
        if not any(deeper):
            break
        depths = [depth + more for depth, more in zip(depths, deeper, strict=True)]
    if len(set(ids)) == len(ids):  # equal but for case is different here
        return ids
    return unique_names(ids, [f"_{number:04d}" for number in range(len(ids))])


def _below(image: Path, root: Path) -> Path:
    return image.relative_to(root) if image.is_relative_to(root) else Path(*image.parts[1:])


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and bool(entry.get("image"))


def _files(path: Path, entry: dict[str, Any]) -> Files:
    images = entry["image"] if isinstance(entry["image"], list) else [entry["image"]]
    label = listed_path(path, entry["label"]) if entry.get("label") else None
    return tuple(listed_path(path, image) for image in images), label


def _unlisted(path: Path, cases: Iterable[Case], file: Path) -> list[tuple[str, UserError]]:
    """Training files that `dataset.json` passes over, which happens when files are added later."""
    used = [each for case in cases for each in (*case.images, case.label) if each is not None]
    known = {half.resolve() for each in used for half in halves(each)}
    folders = [path / "imagesTr", path / "labelsTr"]
    strays = [
        entry
        for folder in folders
        for entry in one_of_each_pair(list_visible(folder) if folder.is_dir() else [])
        if looks_like_scan(entry) and entry.resolve() not in known
    ]
    images = {stem(stray) for stray in strays if stray.parent == folders[0]}
    return [  # an image and its label are reported once
        (
            stem(stray),
            UserError(
                stray,
                expected=f"the file to be listed in {file.name}",
                found="no entry",
                remedy="add it under training or remove the file",
            ),
        )
        for stray in strays
        if stray.parent == folders[0] or stem(stray) not in images
    ]
