"""nnU-Net's raw layout: a file a channel, `imagesTr/case_0000.nii.gz`, and `labelsTr/case.nii.gz`.

Its `dataset.json` is known in two versions: the first looks like MSD's, the second has `channel_names`,
labels as name and value, and `file_ending`.
"""

import re
from pathlib import Path
from typing import Any

from ossnet.data.imaging.scan_files import SUFFIXES, image_suffix, looks_like_scan, stem
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

_IMAGE = re.compile(r"(.+)_(\d{4})")
_NEARLY = re.compile(r"(.+)[-. ](\d{4})")


def read_nnunet(path: Path) -> Source:
    """Read either version; cases are those that have an image, whatever is listed."""
    file = path / "dataset.json"
    description = read_json(file, "the nnunet layout")
    key = "channel_names" if "channel_names" in description else "modality"
    channels = [name for _, name in numbered(description.get(key), file, key, '{"0": "CT"}')]
    ending = f".{str(description.get('file_ending', SUFFIXES[0])).strip().lower().lstrip('.')}"
    if ending not in SUFFIXES:
        expected, found = f"one of {', '.join(SUFFIXES)}", description["file_ending"]
        raise field_error(file, "file_ending", expected, found, "convert the files")
    labels, warnings = _labels(description.get("labels"), file)
    unmatched: dict[str, UserError] = {}
    if isinstance(description.get("dataset"), dict):
        cases = _listed(path, description["dataset"], file)
    else:
        cases, unmatched = _on_disk(path, len(channels), ending)
        for case, error in _absent(description, {case.id for case in cases}, file):
            report(unmatched, case, error)
    return Source(
        root=path,
        layout="nnunet",
        modalities=channel_names(channels),
        labels=labels,
        cases=tuple(sorted(cases, key=lambda case: case.id)),
        unmatched=unmatched,
        warnings=(
            *warnings,
            *renamed_channels(channels, f"{file}: {key}"),
            *count_cases(description, len(cases), file),
        ),
    )


def is_nnunet(path: Path) -> bool:
    """Whether a folder has a `dataset.json` that is nnU-Net's rather than MSD's.

    Where the description may be either's, the files decide: those that it lists are there (MSD), or they are
    there with a channel's number in their names.
    """
    if not (path / "dataset.json").is_file():
        return False
    description = read_json(path / "dataset.json", "the msd layout")
    if {"channel_names", "file_ending"} & description.keys():
        return True
    labels = description.get("labels")
    if isinstance(labels, dict) and labels and not all(str(name).isdigit() for name in labels):
        return all(isinstance(value, int | list) for value in labels.values())
    entries = description.get("training")
    images = [listed_path(path, entry["image"]) for entry in entries or [] if _has_image(entry)]
    plain = sum(image.is_file() for image in images)
    return sum(_first_channel(image).is_file() for image in images) > plain


def _has_image(entry: Any) -> bool:
    return isinstance(entry, dict) and "image" in entry


def _first_channel(image: Path) -> Path:
    name = stem(image)
    return image.with_name(f"{name}_0000{image.name.removeprefix(name)}")


def _listed(path: Path, listed: dict[str, Any], file: Path) -> list[Case]:
    """The second version may name every file of a case."""
    cases = []
    for name, entry in listed.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("images"), list) or not entry["images"]:
            raise field_error(file, f"dataset.{name}", '{"images": [...], "label": ...}', entry)
        label = listed_path(path, entry["label"]) if entry.get("label") else None
        cases.append(Case(name, tuple(listed_path(path, image) for image in entry["images"]), label, name))
    return cases


def _on_disk(path: Path, channels: int, ending: str) -> tuple[list[Case], dict[str, UserError]]:
    images, labels = find_folder(path, "imagesTr"), find_folder(path, "labelsTr")
    found: dict[str, dict[int, Path]] = {}
    label_of: dict[str, Path] = {}
    unmatched: dict[str, UserError] = {}
    for file in list_visible(images) if images.is_dir() else []:
        match = _IMAGE.fullmatch(stem(file))
        if match and _ends_in(file, ending) and int(match[2]) < channels:
            first = found.setdefault(match[1], {}).setdefault(int(match[2]), file)
            if first != file:
                report(unmatched, file.name, _twice(file, first))
        elif looks_like_scan(file):
            report(unmatched, file.name, _misnamed(file, channels, ending))
    for file in list_visible(labels) if labels.is_dir() else []:
        if not looks_like_scan(file):
            continue
        if stem(file) not in found or not _ends_in(file, ending):
            image = images / f"{stem(file)}_0000{ending}"
            error = UserError(
                file, expected=f"its image {image}", found="none", remedy="add it or remove the file"
            )
            report(unmatched, stem(file), error)
        elif label_of.setdefault(stem(file), file) != file:
            report(unmatched, file.name, _twice(file, label_of[stem(file)]))
    cases = [
        Case(
            id=case,
            images=tuple(
                files.get(channel, images / f"{case}_{channel:04d}{ending}") for channel in range(channels)
            ),
            label=label_of.get(case, labels / f"{case}{ending}"),
            group=case,
        )
        for case, files in found.items()
    ]
    return cases, unmatched


def _ends_in(file: Path, ending: str) -> bool:
    return (image_suffix(file) or "").lower() == ending


def _misnamed(file: Path, channels: int, ending: str) -> UserError:
    """The error for a file that is no channel of a case, with the name that it should have."""
    match = _NEARLY.fullmatch(stem(file)) or _IMAGE.fullmatch(stem(file))
    if match and int(match[2]) < channels:
        expected = f"{match[1]}_{match[2]}{ending}"
    else:
        last = f"case_{channels - 1:04d}{ending}"
        expected = f"a name as case_0000{ending}" + (f" to {last}" if channels > 1 else "")
    return UserError(file, expected=expected, found=file.name, remedy="rename it or remove the file")


def _twice(file: Path, first: Path) -> UserError:
    return UserError(
        file, expected="one file of the name", found=f"{first.name} too", remedy="keep one of them"
    )


def _absent(description: dict[str, Any], found: set[str], file: Path) -> list[tuple[str, UserError]]:
    """Cases that the first version lists and of which no image is there."""
    entries = description.get("training")
    listed = [_case_name(str(entry["image"])) for entry in entries or [] if _has_image(entry)]
    return [
        (
            case,
            UserError(
                file,
                expected=f"an image of the case {case}, which is listed under training",
                found="none",
                remedy="add it or remove the entry",
            ),
        )
        for case in listed
        if case not in found
    ]


def _case_name(image: str) -> str:
    return stem(Path(image.strip().replace("\\", "/")))


def _labels(table: Any, file: Path) -> tuple[dict[str, int], list[UserError]]:
    """Names and values; values that only occur in regions (lists of values) are named by number."""
    where = f"{file}: labels"
    if isinstance(table, dict) and table and all(str(key).strip().isdigit() for key in table):
        return name_labels(numbered(table, file, "labels", '{"0": "background", "1": "liver"}'), where)
    single, parts = list[tuple[int, str]](), set[int]()
    for name, value in table.items() if isinstance(table, dict) else []:
        values = value if isinstance(value, list) else [value]
        if not values or not all(isinstance(each, int) and not isinstance(each, bool) for each in values):
            raise field_error(file, f"labels.{name}", "a whole number or a list of some", value)
        if name == "ignore":
            raise field_error(
                file, "labels.ignore", "labels of every voxel", value, "make the ignored ones background"
            )
        if not isinstance(value, list) or (len(values) == 1 and values[0] not in dict(single)):
            single.append((values[0], name))
        parts |= set(values)
    unnamed = [(value, f"label-{value}") for value in parts - dict(single).keys() - {0}]
    if not parts - {0}:
        raise field_error(file, "labels", 'a table such as {"background": 0, "liver": 1}', table)
    return name_labels([*single, *unnamed], where)
