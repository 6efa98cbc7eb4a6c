"""The Medical Segmentation Decathlon's layout: `dataset.json` names images, labels, modalities, classes."""

from pathlib import Path
from typing import Any

from ossnet.data.imaging.nifti import SUFFIXES, stem
from ossnet.data.layouts.dataset_json import field_error, label_name, numbered, read_json
from ossnet.data.layouts.modalities import modality_name
from ossnet.data.layouts.source import Case, Source, list_visible
from ossnet.errors import UserError


def read_msd(path: Path) -> Source:
    """Read `dataset.json`; images may be 3-D, or 4-D with the modalities on the fourth axis."""
    file = path / "dataset.json"
    description = read_json(file, "the msd layout")
    modalities = numbered(description.get("modality"), file, "modality", '{"0": "MRI"}')
    labels = numbered(description.get("labels"), file, "labels", '{"0": "background", "1": "liver"}')
    entries = description.get("training")
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and "image" in entry for entry in entries
    ):
        raise field_error(file, "training", 'a list of {"image": ..., "label": ...}', entries)
    cases: dict[str, Case] = {}
    unmatched: dict[str, UserError] = {}
    for entry in entries:
        case = _msd_case(path, entry)
        if case.id in cases:
            unmatched[f"{case.id} (again)"] = UserError(
                file,
                expected=f"case {case.id} once under training",
                found="it twice",
                remedy="keep one of the entries",
            )
        cases.setdefault(case.id, case)
    unmatched |= _unlisted(path, cases, file)
    return Source(
        root=path,
        layout="msd",
        modalities=tuple(modality_name(name) for _, name in modalities),
        labels={label_name(name): value for value, name in labels if value != 0},
        cases=tuple(cases[case] for case in sorted(cases)),
        unmatched=unmatched,
    )


def is_msd(path: Path) -> bool:
    """Whether a folder has a `dataset.json`."""
    return (path / "dataset.json").is_file()


def _msd_case(path: Path, entry: dict[str, Any]) -> Case:
    image = path / str(entry["image"])
    label = path / str(entry["label"]) if entry.get("label") else None
    return Case(id=stem(image), images=(image,), label=label, group=stem(image))


def _unlisted(path: Path, listed: dict[str, Case], file: Path) -> dict[str, UserError]:
    """Training files that `dataset.json` passes over, which happens when files are added later."""
    known = {
        each.resolve() for case in listed.values() for each in (*case.images, case.label) if each is not None
    }
    strays = [
        entry
        for folder in (path / "labelsTr", path / "imagesTr")
        for entry in (list_visible(folder) if folder.is_dir() else [])
        if entry.name.endswith(SUFFIXES) and entry.resolve() not in known
    ]
    return {  # an image and its label are reported once
        stem(stray): UserError(
            stray,
            expected=f"the file to be listed in {file.name}",
            found="no entry",
            remedy="add it under training or remove the file",
        )
        for stray in strays
        if stem(stray) not in listed or stray.parent.name == "imagesTr"
    }
