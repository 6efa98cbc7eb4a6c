"""Shared parts of layouts with a JSON description: reading it, its tables, its paths and label names."""

import json
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ossnet.data.labels.task import BACKGROUND, BACKGROUND_NAME
from ossnet.data.layouts.source import list_visible
from ossnet.errors import UserError
from ossnet.output.file_names import unique_names

_BACKGROUNDS = {
    "",
    BACKGROUND_NAME,
    "bg",
    "back",
    "none",
    "nothing",
    "unlabeled",
    "unlabelled",
    "clear-label",
}
"""What a value of 0 is called where it means no label."""


def read_json(file: Path, needed_by: str) -> dict[str, Any]:
    """A JSON object, in any Unicode encoding and with or without a byte order mark.

    Raises:
        UserError: no such file, something else in it, or a key that it has twice.
    """
    try:
        values = json.loads(file.read_bytes(), object_pairs_hook=lambda pairs: _object(pairs, file))
    except FileNotFoundError as error:
        raise UserError(
            file, expected=f"the description that {needed_by} needs", found="no file", remedy="put it there"
        ) from error
    except UserError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            file, expected="JSON", found=str(error).splitlines()[0], remedy="correct the file"
        ) from error
    if not isinstance(values, dict):
        raise UserError(file, expected="a JSON object", found=short(values), remedy="correct the file")
    return values


def numbered(table: Any, file: Path, key: str, example: str) -> list[tuple[int, str]]:
    """The rows of a table such as `{"0": "background"}`, by rising number.

    Raises:
        UserError: something else, or a number twice; names the field.
    """
    try:
        rows = sorted((int(number), str(name).strip()) for number, name in table.items())
    except (AttributeError, ValueError, TypeError):
        rows = []
    if not rows or len({number for number, _ in rows}) < len(rows):
        raise field_error(file, key, f"a table such as {example}", table)
    return rows


def listed_path(root: Path, text: Any) -> Path:
    r"""The file that a description names, as people write it.

    Blanks around the path are dropped. Where there is no such file, backslashes are taken for slashes, and of
    a path on the machine where the data set was made its end counts, as far as that is here.
    """
    plain = str(text).strip()
    if _exists(root / plain):
        return root / plain
    parts = [part for part in plain.replace("\\", "/").split("/") if part not in ("", ".")]
    ends = [root.joinpath(*parts[first:]) for first in range(len(parts)) if ".." not in parts[first:]]
    return next(filter(_exists, ends), root / plain.replace("\\", "/"))


def find_folder(root: Path, name: str) -> Path:
    """A folder of a layout, whether or not it is there.

    Raises:
        UserError: it is not, but one is whose name is nearly right.
    """
    folder = root / name
    if folder.is_dir():
        return folder
    there = {entry.name.lower(): entry for entry in list_visible(root) if entry.is_dir()}
    other = name.replace("Tr", "Ts").lower()
    near = [key for key in get_close_matches(name.lower(), there, n=3, cutoff=0.75) if key != other]
    if near:
        found = there[near[0]]
        raise UserError(found, expected=f"the folder {name}", found=found.name, remedy="rename it")
    return folder


def field_error(
    file: Path, key: str, expected: str, found: Any, remedy: str = "correct the field"
) -> UserError:
    """The error for a field of a description that holds something else."""
    return UserError(f"{file}: {key}", expected=expected, found=short(found), remedy=remedy)


def label_name(name: str) -> str:
    """Lower case and without blanks, so that it can stand in the name of a metric."""
    return "-".join(name.lower().replace("/", " ").split())


def name_labels(rows: Sequence[tuple[int, str]], where: Path | str) -> tuple[dict[str, int], list[UserError]]:
    """Name and voxel value of the foreground labels, by rising value, and warnings.

    Names that are equal, even but for case, blanks and slashes, get their value as an ending.

    Args:
        rows: value and name of each label, the background among them where it has a name.

    Raises:
        UserError: a value twice, or another value than 0 that is called background.
    """
    names = {value: label_name(name) for value, name in rows}
    if len(names) < len(rows):
        twice = next(value for value, _ in rows if [each for each, _ in rows].count(value) > 1)
        called = " and ".join(name for value, name in rows if value == twice)
        raise UserError(
            where, expected=f"one name for the value {twice}", found=called, remedy="correct the labels"
        )
    warnings: list[UserError] = []
    zero = names.pop(BACKGROUND, BACKGROUND_NAME)
    if BACKGROUND_NAME in names.values():
        value = next(value for value, name in names.items() if name == BACKGROUND_NAME)
        raise UserError(
            where,
            expected=f"{BACKGROUND} to be the {BACKGROUND_NAME}",
            found=f"{BACKGROUND} called {zero} and {value} called {BACKGROUND_NAME}",
            remedy="correct the labels, and the voxels where they are numbered so",
        )
    if zero not in _BACKGROUNDS:
        warnings.append(
            UserError(
                where,
                expected=f"{BACKGROUND} to be called {BACKGROUND_NAME}",
                found=f"{zero}, which is taken as {BACKGROUND_NAME} all the same and not learned",
                remedy="number the labels from 1 if it is one",
            )
        )
    values = sorted(names)
    unique = unique_names([names[value] or "label" for value in values], [f"-{value}" for value in values])
    changed = [f"{value} {name}" for value, name in zip(values, unique, strict=True) if name != names[value]]
    if changed:
        warnings.append(
            UserError(
                where,
                expected="labels of different names",
                found="some that are equal, even if only but for case and blanks, or empty",
                remedy=f"rename them; here they are called {', '.join(changed)}",
            )
        )
    return dict(zip(unique, values, strict=True)), warnings


def count_cases(description: dict[str, Any], cases: int, file: Path) -> list[UserError]:
    """A warning where `numTraining` is not the number of cases found."""
    declared = description.get("numTraining")
    if declared is None or declared == cases or str(declared).strip() == str(cases):
        return []
    found = f"{cases} recognized from the files and the list of cases"
    remedy = "look for the missing ones, or correct the number"
    return [UserError(f"{file}: numTraining", expected=f"{declared} cases", found=found, remedy=remedy)]


def short(value: Any) -> str:
    """A value as JSON of at most 60 characters, for an error message."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _object(pairs: list[tuple[str, Any]], file: Path) -> dict[str, Any]:
    names = [name.strip() for name, _ in pairs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(
            f"{file}: {twice}", expected="each key once", found="it twice", remedy="rename one of the two"
        )
    return dict(zip(names, (value for _, value in pairs), strict=True))


def _exists(path: Path) -> bool:
    """Whether there is something of this name, be it a link to nowhere."""
    try:
        return path.is_file() or path.is_symlink()
    except (OSError, ValueError):  # a name too long, or with a null
        return False
