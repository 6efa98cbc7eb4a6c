"""Which folder belongs to which job: a job writes only where nothing but its own kind of output is.

A marker file in every output names the job that made it. A folder without one is taken only while it is
empty, and an output never overlaps the data that it is made from, through symbolic links either.
"""

import json
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from ossnet.errors import UserError
from ossnet.output.atomic_write import writing
from ossnet.output.remote.folder import RemoteFolder, unreachable
from ossnet.output.remote.lock import LOCKS, object_lock
from ossnet.output.remote.url import parse_location
from ossnet.output.writer_lock import LOCK, lock_file, system_lock

logger = logging.getLogger(__name__)

MARKER = ".ossnet.json"
_CLOSED = {"prepare", "predict"}  # these look after every file below
_SIGNS = {"manifest.json": ("prepare", {"schema_version", "fingerprint"}), "run.json": ("train", {"id"})}
_SHOWN = 3
_BY_RAY = {"tune": {"trials", "workers", "train"}, "train": {"train"}}  # folders that are fetched when needed


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
    if not isinstance(parse_location(output), Path):
        raise UserError(
            output,
            expected=f"a folder for ossnet {job}",
            found="a URL",
            remedy="name a folder, and copy what is in it",
        )
    with writing(output, "folder"):
        for source in sources:
            _check_apart(output, source)
        _check_inside(output, job)
        if os.path.lexists(output) and not output.is_dir():
            raise UserError(output, expected="a folder", found="a file", remedy="name another --output")
        owner = read_owner(output)
        if owner is None:
            _check_empty(output, job)
        else:
            _check_owner(output, owner, job)
        output.mkdir(parents=True, exist_ok=True)
        _mark(output, job, new=owner is None)
    return output


def job_folder(output: Path, job: str) -> Path:
    """The folder to which a job writes its output: itself, or the copy of what is under its URL.

    Raises:
        UserError: a URL of a kind that cannot be written; it was made by another job, or holds files that no
            job made.
    """
    place = parse_location(output)
    if isinstance(place, Path):
        return place
    folder = RemoteFolder.at(place)
    try:
        marker = folder.file(MARKER)
        if marker is None:
            _check_none(place, [file.name for file in folder.files()], job)
        else:
            _check_owner(place, json.loads(folder.read(MARKER))["job"], job)
            folder.pull(lambda name: is_by_ray(name, job))
    except OSError as error:
        raise unreachable(place, error) from error
    logger.info(f"{place} has a copy on this machine, {folder.path}")
    return folder.path


def is_by_ray(name: str, job: str | None = None) -> bool:
    """Whether Ray writes a file of an output itself.

    Args:
        job: the job that made the output; None: any.
    """
    folders = set().union(*_BY_RAY.values()) if job is None else _BY_RAY.get(job, set())
    return not folders.isdisjoint(name.split("/")[:-1])


@contextmanager
def _uploaded(folder: RemoteFolder, job: str, wait_at_most_s: float) -> Iterator[None]:
    """Keep jobs of other machines out of a remote output, and upload what changes, whatever ends the block.

    Raises:
        UserError: another job is writing to it, or what the block made cannot be uploaded.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(object_lock(folder, job, wait_at_most_s=wait_at_most_s))
            folder.pull(lambda name: is_by_ray(name, job))
            folder.push(folder.path / MARKER)
        except OSError as error:
            raise unreachable(folder.url, error) from error
        try:
            yield
        except BaseException:
            with suppress(OSError, UserError):
                _upload(folder)
            raise
        _upload(folder)


def _upload(folder: RemoteFolder) -> None:
    """Upload what changed; where nothing was made, the marker that says whose it is goes, too."""
    try:
        if any(path.name != MARKER and not path.name.startswith(LOCK) for path in folder.path.iterdir()):
            folder.push_changed()
        elif all(file.name == MARKER or file.name.startswith(LOCKS) for file in folder.files()):
            folder.delete(MARKER)
    except OSError as error:
        logger.warning(f"warning: not all of {folder.path} could be uploaded to {folder.url}")
        raise unreachable(folder.url, error) from error


def _mark(output: Path, job: str, *, new: bool) -> None:
    """Write the marker, also where there is one: the folder may be read-only now. The first of jobs that
    start at once has a new one."""
    aside = output / f"{MARKER}-{uuid4().hex[:12]}"
    try:
        aside.write_text(json.dumps({"job": job}) + "\n")
        if new:
            with suppress(FileExistsError):
                _link(aside, output / MARKER)
            _check_owner(output, read_owner(output), job)
        else:
            aside.replace(output / MARKER)
    finally:
        aside.unlink(missing_ok=True)


def _link(aside: Path, marker: Path) -> None:
    """Give a file its name unless another has it; file systems without links decide by the last."""
    try:
        marker.hardlink_to(aside)
    except FileExistsError:
        raise
    except OSError:
        aside.replace(marker)


def _check_owner(output: Path | str, owner: str | None, job: str) -> None:
    if owner != job:
        raise UserError(
            output,
            expected=f"a new folder, or one that ossnet {job} made",
            found=f"the output of ossnet {owner}",
            remedy="name another --output",
        )


@contextmanager
def claimed_output(
    output: Path, job: str, *, sources: Iterable[Path] = (), wait_at_most_s: float = 0.0
) -> Iterator[Path]:
    """As `claim_output`, for a block, in which no other job may write to it too.

    Where the block leaves nothing in it, what was made for it goes again.

    Args:
        wait_at_most_s: seconds to wait for a job that is writing to it.

    Raises:
        UserError: as `claim_output`, or another job is writing to it.
    """
    with writing(output, "folder"):
        new = [folder for folder in (output, *output.parents) if not folder.exists()]
        marked = (output / MARKER).exists()
    claim_output(output, job, sources=sources)
    with ExitStack() as stack:
        with writing(output, "folder"):
            stack.enter_context(system_lock(output, job, wait_at_most_s=wait_at_most_s))
            if not marked:
                stack.callback(_release, output, new)
            stack.enter_context(lock_file(output, job, wait_at_most_s=wait_at_most_s))
        folder = RemoteFolder.holding(output)
        if folder is not None:
            stack.enter_context(_uploaded(folder, job, wait_at_most_s))
        yield output


def _release(output: Path, new: Iterable[Path]) -> None:
    """Take the marker of an output that holds nothing else, and the folders that are new and empty."""
    with suppress(OSError):
        if all(path.name == MARKER for path in output.iterdir()):
            (output / MARKER).unlink()
        for folder in new:
            folder.rmdir()


def read_owner(folder: Path) -> str | None:
    """The job that made a folder; None where no job did, or where there is none.

    Raises:
        UserError: the marker is none.
        OSError: it cannot be read.
    """
    marker = folder / MARKER
    try:
        return str(json.loads(marker.read_text())["job"])
    except (FileNotFoundError, NotADirectoryError):
        return _unmarked_owner(folder)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            marker,
            expected="the marker of an output",
            found=type(error).__name__,
            remedy="name another --output, or remove the marker if the folder may be written over",
        ) from error


def _unmarked_owner(folder: Path) -> str | None:
    """The job that made a folder before there were markers, by the file that it cannot do without."""
    for name, (job, keys) in _SIGNS.items():
        try:
            found = json.loads((folder / name).read_text())
        except (OSError, ValueError):
            continue
        if isinstance(found, dict) and keys <= found.keys():
            return job
    try:
        with (folder / "study.db").open("rb") as database:
            return "tune" if database.read(16) == b"SQLite format 3\0" else None
    except OSError:
        return None


def _check_apart(output: Path, source: Path) -> None:
    if _same(output, source):
        found = "the same folder"
    elif any(_same(output, folder) for folder in _real(source).parents):
        found = "a folder around it"
    elif any(_same(source, folder) for folder in _real(output).parents):
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
    _check_none(output, [path.name for path in output.iterdir()], job)


def _check_none(output: Path | str, names: Iterable[str], job: str) -> None:
    strange = sorted(name for name in names if not name.startswith("."))
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


def _same(one: Path, other: Path) -> bool:
    """Whether two paths are one folder or file, by another mount or spelling too."""
    if _real(one) == _real(other):
        return True
    try:
        return one.samefile(other)
    except OSError:  # one of them is not there
        return False


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # pathlib's own fails on links in a circle
