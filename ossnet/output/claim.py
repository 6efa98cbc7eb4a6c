"""Which folder belongs to which job: a job writes only where nothing but its own kind of output is.

A marker file in every output names the job that made it. A folder without one is taken only while it is
empty, and an output never overlaps the data that it is made from, through symbolic links either.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path

from ossnet.errors import UserError
from ossnet.output.atomic_write import atomic_write

MARKER = ".ossnet.json"
_CLOSED = {"prepare", "predict"}  # these look after every file below
_SHOWN = 3


def claim_output(output: Path, job: str, *, sources: Iterable[Path] = ()) -> Path:
    """Make a job's output folder, or take the one that the same job made before.

    Args:
        output: the folder; made where it is missing.
        job: the name of the job, as in `ossnet JOB`.
        sources: files and folders that the job reads; none may lie in the output, nor the output in them.

    Returns:
        `output`.

    Raises:
        UserError: it overlaps a source, is no folder, cannot be written, was made by another job, or holds
            files that no job made. Nothing is changed then.
    """
    for source in sources:
        _check_apart(output, source)
    _check_inside(output, job)
    if output.exists() and not output.is_dir():
        raise UserError(output, expected="a folder", found="a file", remedy="name another --output")
    owner = read_owner(output)
    if owner is None:
        _check_empty(output, job)
    elif owner != job:
        raise UserError(
            output,
            expected=f"a new folder, or one that ossnet {job} made",
            found=f"the output of ossnet {owner}",
            remedy="name another --output",
        )
    try:
        output.mkdir(parents=True, exist_ok=True)
        if owner is None:
            atomic_write(output / MARKER, json.dumps({"job": job}) + "\n")
    except OSError as error:
        raise UserError(
            output,
            expected="a folder that can be written",
            found=_reason(error),
            remedy="name another --output",
        ) from error
    return output


def read_owner(folder: Path) -> str | None:
    """The job that made a folder; None where no job did, or where there is none.

    Raises:
        UserError: the marker cannot be read.
    """
    marker = folder / MARKER
    try:
        return str(json.loads(marker.read_text())["job"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            marker,
            expected="the marker of an output",
            found=type(error).__name__,
            remedy="name another --output, or remove the marker if the folder may be written over",
        ) from error


def _check_apart(output: Path, source: Path) -> None:
    here, there = _real(output), _real(source)
    if here == there:
        found = "the same folder"
    elif here in there.parents:
        found = "a folder around it"
    elif there in here.parents:
        found = "a folder inside it"
    else:
        return
    raise UserError(
        output,
        expected=f"an output apart from the input {source}",
        found=found,
        remedy="name another --output",
    )


def _check_inside(output: Path, job: str) -> None:
    """Reject an output below one whose job looks after every file in it."""
    for folder in _real(output).parents:
        owner = read_owner(folder)
        if owner in _CLOSED:
            raise UserError(
                output,
                expected=f"a folder of its own for ossnet {job}",
                found=f"one inside the output of ossnet {owner}, {folder}",
                remedy="name another --output",
            )


def _check_empty(output: Path, job: str) -> None:
    if not output.exists():
        return
    try:
        strange = sorted(path.name for path in output.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise UserError(
            output, expected="a folder that can be read", found=_reason(error), remedy="name another --output"
        ) from error
    if strange:
        shown = ", ".join(strange[:_SHOWN]) + (
            f" and {len(strange) - _SHOWN} more" if len(strange) > _SHOWN else ""
        )
        raise UserError(
            output,
            expected=f"a new or empty folder, or one that ossnet {job} made",
            found=f"files that it did not make ({shown})",
            remedy="name another --output",
        )


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # pathlib's own fails on links in a circle


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
