"""A CSV table of cases: `case`, a column a modality, `label` and, where patients have several cases, `group`.

Paths are relative to the table. A file `labels.json` in the same folder, such as `{"liver": 1, "tumour": 2}`,
declares the labels. Without it the values are those that more than a tenth of the label files hold, so
that a fault in one of many declares no class.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ossnet.data.imaging.scan_files import looks_like_scan
from ossnet.data.layouts.dataset_json import listed_path
from ossnet.data.layouts.label_values import LABELS, declared_labels, occurring_labels
from ossnet.data.layouts.modalities import channel_names, renamed_channels
from ossnet.data.layouts.source import Case, Source, list_visible, report
from ossnet.errors import UserError

_OWN_COLUMNS = ("case", "label", "group")


@dataclass(frozen=True)
class _Table:
    file: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """The rows by column, without blanks around cells and without empty rows, each with its original
    cells."""

    @cached_property
    def images(self) -> list[int]:
        """Numbers of the columns of scans; others (age, site) are passed over."""
        return [
            index
            for index, name in enumerate(self.columns)
            if name.lower() not in _OWN_COLUMNS
            and any(looks_like_scan(Path(row[index])) for row in self.rows if index < len(row))
        ]

    @property
    def modalities(self) -> list[str]:
        """The names of these columns."""
        return [self.columns[index] for index in self.images]


def read_case_table(path: Path) -> Source:
    """Read a CSV file, or the one in a folder that has a column `case` and a column of NIfTI files."""
    table = _read(path) if path.is_file() else _find(path)
    if "case" not in map(str.lower, table.columns) or not table.modalities:
        found = ", ".join(table.columns) or "none"
        raise UserError(
            table.file,
            expected="the columns case, label and one a modality with NIfTI files",
            found=found,
            remedy="add them",
        )
    cases: dict[str, Case] = {}
    unmatched: dict[str, UserError] = {}
    for number, row in enumerate(table.rows, start=1):
        where = f"{table.file}: row {number}"
        case = _case(table, row)
        name, error = case.id or f"row {number}", _row_error(where, table, row)
        if error is None and name in cases:
            error = UserError(
                where, expected=f"case {name} once", found="it twice", remedy="keep one of the rows"
            )
            name = f"{name} (again)"
        if error is not None:
            report(unmatched, name, error)
        else:
            cases[name] = case
    labels, warnings = declared_labels(table.file.parent / LABELS, "the csv layout")
    return Source(
        root=table.file.parent,
        layout="csv",
        modalities=channel_names(table.modalities),
        labels=labels or occurring_labels(list(cases.values()), table.file),
        cases=tuple(cases[case] for case in sorted(cases)),
        unmatched=unmatched,
        warnings=(*warnings, *renamed_channels(table.modalities, str(table.file))),
    )


def is_case_table(path: Path) -> bool:
    """Whether a folder holds a table of cases."""
    return bool(_tables(path))


def _find(path: Path) -> _Table:
    tables = _tables(path)
    if len(tables) != 1:
        found = ", ".join(table.file.name for table in tables) or "none"
        raise UserError(
            path,
            expected="one CSV table with a column case and NIfTI files",
            found=found,
            remedy="name the file",
        )
    return tables[0]


def _tables(path: Path) -> list[_Table]:
    tables = [_read(file) for file in list_visible(path) if file.suffix.lower() == ".csv" and file.is_file()]
    return [table for table in tables if "case" in map(str.lower, table.columns) and table.modalities]


def _read(file: Path) -> _Table:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            file,
            expected="a CSV table in UTF-8",
            found=f"something else ({error})",
            remedy="export it again",
        ) from error
    mark = max(",;\t", key=lines[0].count) if lines else ","  # spreadsheets write what their country uses
    cells = [tuple(cell.strip() for cell in row) for row in csv.reader(lines, delimiter=mark)]
    columns, *rows = [row for row in cells if any(row)] or [()]
    return _Table(file, columns, tuple(rows))


def _cells(table: _Table, row: Sequence[str]) -> dict[str, str]:
    return dict(zip(table.columns, [*row, *[""] * len(table.columns)], strict=False))


def _case(table: _Table, row: Sequence[str]) -> Case:
    cells = _cells(table, row)
    own = {name.lower(): cell for name, cell in cells.items() if name.lower() in _OWN_COLUMNS}
    folder, name = table.file.parent, own["case"]
    return Case(
        id=name,
        images=tuple(
            listed_path(folder, row[index]) if index < len(row) else folder for index in table.images
        ),
        label=listed_path(folder, own["label"]) if own.get("label") else None,
        group=own.get("group") or name,
    )


def _row_error(where: str, table: _Table, row: Sequence[str]) -> UserError | None:
    """Why a row gives no case; None where it does."""
    name = _case(table, row).id
    empty = [table.columns[index] for index in table.images if index >= len(row) or not row[index]]
    if len(row) > len(table.columns):
        return UserError(
            where,
            expected=f"{len(table.columns)} cells",
            found=str(len(row)),
            remedy="quote paths that hold a comma",
        )
    if not name:
        return UserError(where, expected="a case id", found="none", remedy="give it one")
    if empty:
        return UserError(
            where,
            expected=f"a file for {', '.join(empty)}",
            found="none",
            remedy="fill it in or remove the row",
        )
    return None
