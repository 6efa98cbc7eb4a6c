"""What jobs do with paths that may be part of the copy of a remote folder; other paths need nothing."""

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path

from ossnet.errors import UserError, first_line
from ossnet.output.remote.folder import PACKED, RemoteFolder, Use, unreachable
from ossnet.output.remote.url import parse_location

logger = logging.getLogger(__name__)


def location_of(path: Path) -> str:
    """Where a path lies for every node: its URL if it is part of a copy, else the path itself."""
    folder = RemoteFolder.holding(path)
    return str(path) if folder is None else folder.url_of(path)


def folder_here(location: str, use: Use = "workers") -> Path:
    """The folder of a `location_of`, on whichever node this is."""
    place = parse_location(location)
    return place if isinstance(place, Path) else RemoteFolder.at(place, use).path


@contextmanager
def written(path: Path, location: str) -> Iterator[Path]:
    """A file to write in the block, on any node; it is uploaded then, if the job's is part of a copy.

    Args:
        path: the job's file.
        location: `location_of` it, on the job's node.

    Raises:
        OSError: it cannot be uploaded.
    """
    url = parse_location(location)
    if isinstance(url, Path):
        yield path
        return
    here = RemoteFolder.holding(path)
    folder = here or RemoteFolder.at(url.rpartition("/")[0], "workers")
    target = path if here else folder.path / path.name
    yield target
    folder.push(target)
    if here is None:
        target.unlink()


def fetch_file(path: Path) -> None:
    """A file that another node wrote, if it is part of a copy that lacks it."""
    folder = RemoteFolder.holding(path)
    if folder is not None and not path.exists():
        folder.pull_file(folder.name_of(path))


def keep_all(output: Path, only: Path) -> None:
    """Upload what differs, if the output is a copy, and remove files of one folder that it lacks.

    Raises:
        OSError: the storage cannot be used.
    """
    folder = RemoteFolder.holding(output)
    if folder is None:
        return
    folder.push_changed()
    for file in folder.files(folder.name_of(only)):
        if not (output / file.name).exists():
            folder.delete(file.name)


def fetch_input(path: Path, skip: Callable[[str], bool] = lambda name: False) -> Path:
    """A file or folder that a job reads: itself, or the copy of what is under its URL.

    Raises:
        UserError: there is nothing, or it cannot be read.
    """
    place = parse_location(path)
    if isinstance(place, Path):
        return path
    folder = RemoteFolder.at(place, "inputs")
    try:
        if folder.is_file():
            return _fetch_single(place)
        if not folder.files():
            raise UserError(place, expected="a folder with files", found="none", remedy="check the URL")
        folder.pull(skip)
    except OSError as error:
        raise unreachable(place, error) from error
    return folder.path


def _fetch_single(url: str) -> Path:
    parent, _, name = url.rpartition("/")
    folder = RemoteFolder.at(parent, "inputs")
    folder.pull_file(name)
    return folder.path / name


def update_file(path: Path) -> None:
    """Bring a file to what is there, if it is part of a copy.

    Raises:
        OSError: it cannot be read.
    """
    folder = RemoteFolder.holding(path)
    if folder is not None:
        folder.pull_file(folder.name_of(path))


def move_up(path: Path) -> None:
    """Upload a file and remove it here, if it is part of a copy.

    Raises:
        OSError: it cannot be uploaded.
    """
    folder = RemoteFolder.holding(path)
    if folder is not None:
        folder.push(path)
        path.unlink()


def keep(path: Path) -> None:
    """Upload a file, if it is part of a copy; where storage is away it is uploaded later, with a line."""
    _upload(path, RemoteFolder.push)


def keep_changed(path: Path) -> None:
    """Upload the files of a folder that differ from what is there, as `keep`."""
    _upload(path, lambda folder, path: folder.push_changed(folder.name_of(path)))


def keep_folder(path: Path) -> None:
    """Upload a folder as one object, as `keep`."""
    _upload(path, RemoteFolder.push_packed)


def _upload(path: Path, push: Callable[[RemoteFolder, Path], object]) -> None:
    folder = RemoteFolder.holding(path)
    if folder is None:
        return
    try:
        push(folder, path)
    except OSError as error:
        logger.warning(f"warning: {folder.url_of(path)} is not uploaded yet: {first_line(error)}")


def fetch_folder(path: Path) -> None:
    """What `keep_folder` uploaded, if it is part of a copy."""
    folder = RemoteFolder.holding(path)
    if folder is not None:
        folder.pull_packed(path)


def fetch_folders(parent: Path, names: str) -> None:
    """Copy folders that others uploaded, file by file, if their parent is part of a copy.

    Args:
        names: a pattern of their names.
    """
    folder = RemoteFolder.holding(parent)
    if folder is not None:
        below = folder.name_of(parent)
        for name in folder.folders(below):
            if fnmatch(name, names):
                folder.pull_folder(f"{below}/{name}" if below else name)


def fetch_files(parent: Path, names: str) -> None:
    """Files directly in a folder that others uploaded, if it is part of a copy.

    Args:
        names: a pattern of their names.
    """
    folder = RemoteFolder.holding(parent)
    if folder is not None:
        below = folder.name_of(parent)
        for file in folder.files(below, recursive=False):
            if fnmatch(file.name.rpartition("/")[2], names):
                folder.pull_file(file.name)


def fetch_part(output: Path, path: str) -> Path | None:
    """A folder that others uploaded below an output, by the path that pyarrow's file systems have for it.

    Where the output is no copy, the path is the folder. Where storage is away there is none, with a line.
    """
    folder = RemoteFolder.holding(output)
    if folder is None:
        return Path(path)
    try:
        return folder.pull_folder(path.removeprefix(f"{folder.root}/"))
    except OSError as error:
        logger.warning(f"warning: {path} cannot be fetched: {first_line(error)}")
        return None


def names_in(parent: Path, names: str) -> list[Path]:
    """The folders in one, by a pattern of their names: those of a copy are those that are there."""
    folder = RemoteFolder.holding(parent)
    if folder is None:
        return sorted(path for path in parent.glob(f"{names}/"))
    found = folder.folders(folder.name_of(parent))
    return sorted(parent / name for name in found if fnmatch(name, names))


def remove_folder(path: Path) -> None:
    """Remove a folder, and what `keep_folder` uploaded of it."""
    shutil.rmtree(path, ignore_errors=True)
    folder = RemoteFolder.holding(path)
    if folder is not None:
        with suppress(OSError):
            folder.delete(folder.name_of(path) + PACKED)
