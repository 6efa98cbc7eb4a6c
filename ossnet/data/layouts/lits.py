"""LiTS: `volume-N.nii` and `segmentation-N.nii`, paired by N, in one folder or in those of its batches."""

import re
from pathlib import Path

from ossnet.data.imaging.scan_files import image_suffix, stem
from ossnet.data.layouts.source import Case, Source, list_visible, report
from ossnet.errors import UserError

_NAME = re.compile(r"(volume|segmentation)-(\d+)")
_LABELS = {"liver": 1, "tumour": 2}


def read_lits(path: Path) -> Source:
    """Read volumes and segmentations; test volumes (`test-volume-N`) are no cases."""
    files: dict[tuple[str, int], Path] = {}
    unmatched: dict[str, UserError] = {}
    for kind, number, file in _named(path):
        first = files.setdefault((kind, number), file)
        if first != file:
            error = UserError(
                file, expected=f"one {kind} {number}", found=f"{first} too", remedy="keep one of them"
            )
            report(unmatched, f"{stem(file)} (again)", error)
    volumes = {number: file for (kind, number), file in files.items() if kind == "volume"}
    for (kind, number), file in files.items():
        if kind == "segmentation" and number not in volumes:
            unmatched[stem(file)] = UserError(
                file, expected=f"volume-{number} too", found="none", remedy="add it or remove the file"
            )
    cases = [
        Case(stem(file), (file,), files.get(("segmentation", number)), stem(file))
        for number, file in volumes.items()
    ]
    return Source(
        root=path,
        layout="lits",
        modalities=("CT",),
        labels=dict(_LABELS),
        cases=tuple(sorted(cases, key=lambda case: case.id)),
        unmatched=unmatched,
    )


def is_lits(path: Path) -> bool:
    """Whether a folder, or one below it, holds a volume named so."""
    return any(kind == "volume" for kind, _, _ in _named(path))


def _named(path: Path) -> list[tuple[str, int, Path]]:
    """Kind, number and path of every file named so, at most two folders down."""
    folders = [path, *_folders(path)]
    folders += [inner for folder in folders[1:] for inner in _folders(folder)]
    files = [entry for folder in folders for entry in list_visible(folder) if image_suffix(entry)]
    matches = [(_NAME.fullmatch(stem(file)), file) for file in files]
    return [(match[1], int(match[2]), file) for match, file in matches if match]


def _folders(path: Path) -> list[Path]:
    return [entry for entry in list_visible(path) if entry.is_dir()]
