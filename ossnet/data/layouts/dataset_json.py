"""Shared parts of layouts with a JSON description: reading it, its tables and the names of labels."""

import json
from pathlib import Path
from typing import Any

from ossnet.errors import UserError


def read_json(file: Path, needed_by: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        UserError: no such file, or something else in it.
    """
    try:
        values = json.loads(file.read_text())
    except FileNotFoundError as error:
        raise UserError(
            file, expected=f"the description that {needed_by} needs", found="no file", remedy="put it there"
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(
            file, expected="JSON", found=str(error).splitlines()[0], remedy="correct the file"
        ) from error
    if not isinstance(values, dict):
        raise UserError(file, expected="a JSON object", found=short(values), remedy="correct the file")
    return values


def numbered(table: Any, file: Path, key: str, example: str) -> list[tuple[int, str]]:
    """The rows of a table such as `{"0": "background"}`, by rising number.

    Raises:
        UserError: something else; names the field.
    """
    try:
        rows = sorted((int(number), str(name)) for number, name in table.items())
    except (AttributeError, ValueError, TypeError):
        rows = []
    if not rows:
        raise field_error(file, key, f"a table such as {example}", table)
    return rows


def field_error(
    file: Path, key: str, expected: str, found: Any, remedy: str = "correct the field"
) -> UserError:
    """The error for a field of a description that holds something else."""
    return UserError(f"{file}: {key}", expected=expected, found=short(found), remedy=remedy)


def label_name(name: str) -> str:
    """Lower case and without blanks, so that it can stand in the name of a metric."""
    return "-".join(name.lower().replace("/", " ").split())


def short(value: Any) -> str:
    """A value as JSON of at most 60 characters, for an error message."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
