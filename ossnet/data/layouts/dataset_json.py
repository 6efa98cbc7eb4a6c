"""What layouts with a `dataset.json` share: reading it, and the names of modalities and labels."""

import json
from pathlib import Path
from typing import Any

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


def read_json(file: Path, needed_by: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        UserError: no such file, or something else in it.
    """
    try:
        values = json.loads(file.read_text())
    except FileNotFoundError as error:
        msg = f"{file}: file not found; {needed_by} needs it"
        raise UserError(msg) from error
    except (OSError, ValueError) as error:
        msg = f"{file}: expected JSON, found {str(error).splitlines()[0]}"
        raise UserError(msg) from error
    if not isinstance(values, dict):
        msg = f"{file}: expected a JSON object, found {short(values)}"
        raise UserError(msg)
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
        msg = f"{file}: {key}: expected a table such as {example}, found {short(table)}"
        raise UserError(msg)
    return rows


def modality_name(name: str) -> str:
    """A modality as every layout here calls it."""
    return _SPELLINGS.get(name.lower(), name)


def label_name(name: str) -> str:
    """Lower case and without blanks, so that it can stand in the name of a metric."""
    return "-".join(name.lower().replace("/", " ").split())


def short(value: Any) -> str:
    """JSON for an error message."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
