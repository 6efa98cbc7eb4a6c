"""A CSV table of cases: `case`, a column a modality, `label` and, where patients have several cases, `group`.

Paths are relative to the table. A file `labels.json` beside it, such as `{"liver": 1, "tumour": 2}`, declares
the labels. Without it the values are those that more than a tenth of the label files hold, so that a fault in
one of many declares no class.
"""

import csv
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import cpu_count
from pathlib import Path

import numpy as np

from ossnet.data.imaging.nifti import SUFFIXES, read_header, read_labels
from ossnet.data.layouts.dataset_json import label_name, modality_name, read_json, short
from ossnet.data.layouts.source import Case, Source, list_visible
from ossnet.errors import UserError

LABELS = "labels.json"
_OWN = ("case", "label", "group")
_MOST = 255  # labels that a store can hold
_COMMON = 10  # a value counts where more than one label file in ten holds it


@dataclass(frozen=True)
class _Table:
    file: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """Without blanks around cells and without empty rows, each with its cells as they are."""

    @property
    def modalities(self) -> list[str]:
        """Columns of NIfTI files; others (age, site) are passed over."""
        places = [place for place, name in enumerate(self.columns) if name.lower() not in _OWN]
        return [
            self.columns[place]
            for place in places
            if any(row[place].endswith(SUFFIXES) for row in self.rows if place < len(row))
        ]


def read_manifest(path: Path) -> Source:
    """Read a CSV file, or the one in a folder that has a column `case` and a column of NIfTI files."""
    table = _read(path) if path.is_file() else _find(path)
    if "case" not in map(str.lower, table.columns) or not table.modalities:
        found = ", ".join(table.columns) or "none"
        msg = (
            f"{table.file}: expected the columns case, label and one a modality with NIfTI files, "
            f"found {found}; add them"
        )
        raise UserError(msg)
    cases: dict[str, Case] = {}
    unmatched: dict[str, str] = {}
    for number, row in enumerate(table.rows, start=1):
        case, problem = _case(table, row)
        name = case.id or f"row {number}"
        if problem is None and name in cases:
            name, problem = f"{name} (again)", f"case {name} is there twice; keep one of the rows"
        if problem is not None:
            unmatched[name] = f"{table.file}: row {number}: {problem}"
        else:
            cases[name] = case
    return Source(
        root=table.file.parent,
        layout="csv",
        modalities=tuple(map(modality_name, table.modalities)),
        labels=_declared(table.file.parent / LABELS) or _occurring(list(cases.values()), table.file),
        cases=tuple(cases[case] for case in sorted(cases)),
        unmatched=unmatched,
    )


def is_manifest(path: Path) -> bool:
    """Whether a folder holds such a table."""
    return bool(_tables(path))


def _find(path: Path) -> _Table:
    tables = _tables(path)
    if len(tables) != 1:
        found = ", ".join(table.file.name for table in tables) or "none"
        msg = (
            f"{path}: expected one CSV table with a column case and NIfTI files, found {found}; name the file"
        )
        raise UserError(msg)
    return tables[0]


def _tables(path: Path) -> list[_Table]:
    tables = [_read(file) for file in list_visible(path) if file.suffix.lower() == ".csv" and file.is_file()]
    return [table for table in tables if "case" in map(str.lower, table.columns) and table.modalities]


def _read(file: Path) -> _Table:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{file}: expected a CSV table in UTF-8, found something else ({error}); export it again"
        raise UserError(msg) from error
    mark = max(",;\t", key=lines[0].count) if lines else ","  # spreadsheets write what their country uses
    cells = [tuple(cell.strip() for cell in row) for row in csv.reader(lines, delimiter=mark)]
    columns, *rows = [row for row in cells if any(row)] or [()]
    return _Table(file, columns, tuple(rows))


def _case(table: _Table, row: Sequence[str]) -> tuple[Case, str | None]:
    """A row's case, and what is wrong with the row."""
    cells = dict(zip(table.columns, [*row, *[""] * len(table.columns)], strict=False))
    own = {name.lower(): cell for name, cell in cells.items() if name.lower() in _OWN}
    folder, name = table.file.parent, own["case"]
    case = Case(
        id=name,
        images=tuple(folder / cells[modality] for modality in table.modalities),
        label=folder / own["label"] if own.get("label") else None,
        group=own.get("group") or name,
    )
    empty = [modality for modality in table.modalities if not cells[modality]]
    if len(row) > len(table.columns):
        return case, f"expected {len(table.columns)} cells, found {len(row)}; quote paths that hold a comma"
    if not name or {"/", "\\"} & set(name):
        return case, f"expected a case id without slashes, found {name!r}; give it one"
    if empty:
        return case, f"expected a file for {', '.join(empty)}, found none; fill it in or remove the row"
    return case, None


def _declared(file: Path) -> dict[str, int]:
    if not file.is_file():
        return {}
    labels = read_json(file, "the csv layout")
    if not all(isinstance(value, int) and not isinstance(value, bool) for value in labels.values()):
        msg = f'{file}: expected names and values such as {{"liver": 1, "tumour": 2}}, found {short(labels)}'
        raise UserError(msg)
    rising = sorted(labels.items(), key=lambda label: label[1])
    return {label_name(name): value for name, value in rising if value != 0}


def _occurring(cases: Sequence[Case], root: Path) -> dict[str, int]:
    """The labels that files hold.

    Raises:
        UserError: more values than labels can have, as where images were taken for labels.
    """
    files = [case.label for case in cases if case.label is not None]
    with ThreadPoolExecutor(cpu_count()) as pool:
        found = [values for values in pool.map(_values, files) if values is not None]
    counts = Counter(value for values in found for value in values)
    common = sorted(value for value, count in counts.items() if count * _COMMON > len(found) and value > 0)
    if len(common) > _MOST:
        msg = (
            f"{root}: expected at most {_MOST} label values, found {len(common)} in the label files; "
            f"declare the labels in {LABELS}"
        )
        raise UserError(msg)
    return {"foreground": common[0]} if len(common) == 1 else {f"label-{value}": value for value in common}


def _values(file: Path) -> set[int] | None:
    """None where the file cannot be read: whoever uses the case will tell."""
    try:
        labels = read_labels(read_header(file))
    except UserError:
        return None
    return {value for plane in labels for value in np.unique(plane).tolist()}
