"""nnU-Net's raw layout: a file a channel, `imagesTr/case_0000.nii.gz`, and `labelsTr/case.nii.gz`.

Its `dataset.json` is known in two versions: the first looks like MSD's, the second has `channel_names`,
labels as name and value, and `file_ending`.
"""

import re
from pathlib import Path
from typing import Any

from ossnet.data.imaging.nifti import SUFFIXES, stem
from ossnet.data.layouts.dataset_json import field_error, label_name, numbered, read_json
from ossnet.data.layouts.modalities import modality_name
from ossnet.data.layouts.source import Case, Source, list_visible
from ossnet.errors import UserError

_IMAGE = re.compile(r"(.+)_(\d{4})")


def read_nnunet(path: Path) -> Source:
    """Read either version; cases are those that have an image, whatever is listed."""
    file = path / "dataset.json"
    description = read_json(file, "the nnunet layout")
    key = "channel_names" if "channel_names" in description else "modality"
    channels = [name for _, name in numbered(description.get(key), file, key, '{"0": "CT"}')]
    ending = description.get("file_ending", SUFFIXES[0])
    if ending not in SUFFIXES:
        raise field_error(file, "file_ending", " or ".join(SUFFIXES), ending, "convert the files")
    unmatched: dict[str, UserError] = {}
    if isinstance(description.get("dataset"), dict):
        cases = _listed(path, description["dataset"], file)
    else:
        cases, unmatched = _on_disk(path, len(channels), ending)
        unmatched |= _absent(description, {case.id for case in cases}, file)
    return Source(
        root=path,
        layout="nnunet",
        modalities=tuple(map(modality_name, channels)),
        labels=_labels(description.get("labels"), file),
        cases=tuple(sorted(cases, key=lambda case: case.id)),
        unmatched=unmatched,
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
    images = [path / str(entry["image"]) for entry in entries or [] if _has_image(entry)]
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
        label = path / str(entry["label"]) if entry.get("label") else None
        cases.append(Case(name, tuple(path / str(image) for image in entry["images"]), label, name))
    return cases


def _on_disk(path: Path, channels: int, ending: str) -> tuple[list[Case], dict[str, UserError]]:
    images, labels = path / "imagesTr", path / "labelsTr"
    found, unmatched = set[str](), dict[str, UserError]()
    for file in list_visible(images) if images.is_dir() else []:
        match = _IMAGE.fullmatch(stem(file))
        if match and file.name.endswith(ending) and int(match[2]) < channels:
            found.add(match[1])
        elif file.name.endswith(SUFFIXES):
            last = f"case_{channels - 1:04d}{ending}"
            expected = f"case_0000{ending}" + (f" to {last}" if channels > 1 else "")
            unmatched[file.name] = UserError(
                file, expected=f"a name as {expected}", found=file.name, remedy="rename it or remove the file"
            )
    for file in list_visible(labels) if labels.is_dir() else []:
        if file.name.endswith(SUFFIXES) and (stem(file) not in found or not file.name.endswith(ending)):
            image = images / f"{stem(file)}_0000{ending}"
            unmatched[stem(file)] = UserError(
                file, expected=f"its image {image}", found="none", remedy="add it or remove the file"
            )
    cases = [
        Case(
            id=case,
            images=tuple(images / f"{case}_{channel:04d}{ending}" for channel in range(channels)),
            label=labels / f"{case}{ending}",
            group=case,
        )
        for case in found
    ]
    return cases, unmatched


def _absent(description: dict[str, Any], found: set[str], file: Path) -> dict[str, UserError]:
    """Cases that the first version lists and of which no image is there."""
    entries = description.get("training")
    listed = [stem(Path(str(entry["image"]))) for entry in entries or [] if _has_image(entry)]
    return {
        case: UserError(
            file,
            expected=f"an image of the case {case}, which is listed under training",
            found="none",
            remedy="add it or remove the entry",
        )
        for case in listed
        if case not in found
    }


def _labels(table: Any, file: Path) -> dict[str, int]:
    """Names and values; values that only occur in regions (lists of values) are named by number."""
    if isinstance(table, dict) and table and all(str(key).isdigit() for key in table):
        rows = numbered(table, file, "labels", '{"0": "background", "1": "liver"}')
        return {label_name(name): value for value, name in rows if value != 0}
    single, parts = dict[int, str](), set[int]()
    for name, value in table.items() if isinstance(table, dict) else []:
        values = value if isinstance(value, list) else [value]
        if not values or not all(isinstance(each, int) and not isinstance(each, bool) for each in values):
            raise field_error(file, f"labels.{name}", "a whole number or a list of some", value)
        if name == "ignore":
            raise field_error(
                file, "labels.ignore", "labels of every voxel", value, "make the ignored ones background"
            )
        if len(values) == 1:
            single.setdefault(values[0], label_name(name))
        parts |= set(values)
    foreground = sorted(parts - {0})
    if not foreground:
        raise field_error(file, "labels", 'a table such as {"background": 0, "liver": 1}', table)
    return {single.get(value, f"label-{value}"): value for value in foreground}
