"""The Medical Segmentation Decathlon's layout: `dataset.json` names images, labels, modalities, classes."""

import json
from pathlib import Path
from typing import Any

from ossnet.data.layouts.source import Case, Source, visible
from ossnet.data.nifti import SUFFIXES, stem
from ossnet.errors import UserError

_SPELLINGS = {
    "flair": "FLAIR",
    "t1": "T1w",
    "t1w": "T1w",
    "t1gd": "T1gd",
    "t1ce": "T1gd",
    "t2": "T2w",
    "t2w": "T2w",
    "ct": "CT",
}


def read_msd(path: Path) -> Source:
    """Read `dataset.json`; images may be 3-D, or 4-D with the modalities on the fourth axis."""
    file = path / "dataset.json"
    description = _read_json(file)
    modalities = _numbered(description.get("modality"), file, "modality", '{"0": "MRI"}')
    labels = _numbered(description.get("labels"), file, "labels", '{"0": "background", "1": "liver"}')
    entries = description.get("training")
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and "image" in entry for entry in entries
    ):
        msg = f'{file}: training: expected a list of {{"image": ..., "label": ...}}, found {_short(entries)}'
        raise UserError(msg)
    cases: dict[str, Case] = {}
    left_out: dict[str, str] = {}
    for entry in entries:
        case = _msd_case(path, entry)
        if case.id in cases:
            left_out[f"{case.id} (again)"] = (
                f"{file}: case {case.id} is listed twice; keep one of the entries"
            )
        cases.setdefault(case.id, case)
    left_out |= _unlisted(path, cases, file)
    return Source(
        root=path,
        layout="msd",
        modalities=tuple(_SPELLINGS.get(name.lower(), name) for _, name in modalities),
        labels={_label_name(name): value for value, name in labels if value != 0},
        cases=tuple(cases[case] for case in sorted(cases)),
        left_out=left_out,
    )


def _msd_case(path: Path, entry: dict[str, Any]) -> Case:
    image = path / str(entry["image"])
    label = path / str(entry["label"]) if entry.get("label") else None
    return Case(id=stem(image), images=(image,), label=label, group=stem(image))


def _unlisted(path: Path, listed: dict[str, Case], file: Path) -> dict[str, str]:
    """Training images that `dataset.json` passes over, which happens when files are added later."""
    folder = path / "imagesTr"
    images = visible(folder) if folder.is_dir() else []
    known = {case.images[0].resolve() for case in listed.values()}
    return {
        stem(image): f"{image}: not listed in {file.name}; add it under training or remove the file"
        for image in images
        if image.name.endswith(SUFFIXES) and image.resolve() not in known
    }


def _numbered(table: Any, file: Path, key: str, example: str) -> list[tuple[int, str]]:
    """The rows of a table such as `{"0": "background"}`, by rising number."""
    try:
        rows = sorted((int(number), str(name)) for number, name in table.items())
    except (AttributeError, ValueError, TypeError):
        rows = []
    if not rows:
        msg = f"{file}: {key}: expected a table such as {example}, found {_short(table)}"
        raise UserError(msg)
    return rows


def _read_json(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text())
    except FileNotFoundError as error:
        msg = f"{file}: file not found; the msd layout needs it"
        raise UserError(msg) from error
    except (OSError, ValueError) as error:
        msg = f"{file}: expected JSON, found {str(error).splitlines()[0]}"
        raise UserError(msg) from error
    if not isinstance(values, dict):
        msg = f"{file}: expected a JSON object, found {_short(values)}"
        raise UserError(msg)
    return values


def _label_name(name: str) -> str:
    """Lower case and without blanks, so that it can stand in the name of a metric."""
    return "-".join(name.lower().replace("/", " ").split())


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
