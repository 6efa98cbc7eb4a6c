"""A folder of object storage with its copy on this machine: jobs write to the copy, and changes are uploaded.

Each object is put at once and is whole or not there. A file and its object are the same while they have one
size and one time of change, which the copy takes over from the object.
"""

import hashlib
import json
import os
import re
import shutil
import tarfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar
from uuid import uuid4

from ossnet.errors import UserError, first_line
from ossnet.output.atomic_write import atomic_folder, atomic_path, atomic_write
from ossnet.output.remote.url import open_filesystem

Result = TypeVar("Result")
Use = Literal["outputs", "inputs", "workers"]
"""What a copy is for, by which there are several of one folder: a job's, those of what jobs read, and those
of processes on any node that write their part of it."""

_URL_FILE = "url.json"  # beside the copy
_LOCAL = ("study.db*", ".*.lock", ".ossnet-lock*", ".mlflow-journal*", "checkpoint_interim")  # never uploaded
_ASIDE = re.compile(r"\.[0-9a-f]{12}-.*", re.DOTALL)  # what is being written
_WHOLE = "version.json"  # with this a checkpoint is whole
_LAST = (_WHOLE, "manifest.json")  # and a store with that
PACKED = ".tar"
"""Ends the name of an object that is a whole folder."""
_TRIES, _PAUSE_S = 6, 1.0  # where storage is away: 31 s in all
_FINAL = ("ACCESS_DENIED", "NO_SUCH_BUCKET", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH")


@dataclass(frozen=True)
class RemoteFile:
    """An object below a folder."""

    name: str
    """Its path relative to the folder."""
    size: int
    changed_ms: int
    """Its time of change by the storage's clock, in milliseconds."""


@dataclass(frozen=True)
class RemoteFolder:
    """A folder of object storage, and its copy here."""

    path: Path
    """The copy."""
    url: str

    @classmethod
    def at(cls, url: str, use: Use = "outputs") -> "RemoteFolder":
        """The folder of a URL; its copy is made where it is missing, in the user's cache.

        Raises:
            UserError: the URL holds a password or options, or the copy cannot be made.
        """
        _check(url)
        name = url.rpartition("/")[2]
        place = _cache() / use / f"{name}-{hashlib.sha256(url.encode()).hexdigest()[:12]}"
        atomic_write(place / _URL_FILE, json.dumps({"url": url, "folder": name}))
        (place / name).mkdir(exist_ok=True)
        return cls(place / name, url)

    @classmethod
    def holding(cls, path: Path) -> "RemoteFolder | None":
        """The folder of whose copy a path is part; None for any other path."""
        for folder in (path, *path.parents):
            with suppress(OSError, ValueError):
                known = json.loads((folder.parent / _URL_FILE).read_text())
                if known["folder"] == folder.name:
                    return cls(folder, known["url"])
        return None

    def url_of(self, path: Path) -> str:
        """The URL of a part of the copy."""
        name = self.name_of(path)
        return f"{self.url}/{name}" if name else self.url

    def name_of(self, path: Path) -> str:
        """The name of a part of the copy, relative to the folder."""
        name = path.relative_to(self.path).as_posix()
        return "" if name == "." else name

    def files(self, below: str = "", *, recursive: bool = True) -> list[RemoteFile]:
        """All objects below a folder, or directly in it, sorted."""
        from pyarrow.fs import FileSelector, FileType

        filesystem, root = self._filesystem
        start = f"{root}/{below}" if below else root
        selector = FileSelector(start, recursive=recursive, allow_not_found=True)
        found = _patiently(lambda: filesystem.get_file_info(selector))
        return sorted(
            (
                RemoteFile(info.path.removeprefix(f"{root}/"), info.size, info.mtime_ns // 1_000_000)
                for info in found
                if info.type == FileType.File
            ),
            key=lambda file: file.name,
        )

    def folders(self, below: str = "") -> list[str]:
        """The names of the folders directly in one."""
        from pyarrow.fs import FileSelector, FileType

        filesystem, root = self._filesystem
        start = f"{root}/{below}" if below else root
        selector = FileSelector(start, allow_not_found=True)
        found = _patiently(lambda: filesystem.get_file_info(selector))
        return [info.base_name for info in found if info.type == FileType.Directory]

    def is_file(self) -> bool:
        """Whether the URL is that of an object, so that this is no folder."""
        from pyarrow.fs import FileType

        filesystem, root = self._filesystem
        (info,) = _patiently(lambda: filesystem.get_file_info([root]))
        return bool(info.type == FileType.File)

    def file(self, name: str) -> RemoteFile | None:
        """One object; None where there is none."""
        from pyarrow.fs import FileType

        filesystem, root = self._filesystem
        (info,) = _patiently(lambda: filesystem.get_file_info([f"{root}/{name}"]))
        if info.type != FileType.File:
            return None
        return RemoteFile(name, info.size, info.mtime_ns // 1_000_000)

    def read(self, name: str) -> bytes:
        """The content of an object.

        Raises:
            FileNotFoundError: there is none.
        """
        filesystem, root = self._filesystem
        with filesystem.open_input_file(f"{root}/{name}") as stream:
            content: bytes = stream.read()
        return content

    def write(self, name: str, content: bytes) -> None:
        """Put an object."""
        filesystem, root = self._filesystem

        def put() -> None:
            with filesystem.open_output_stream(f"{root}/{name}") as stream:
                stream.write(content)

        _patiently(put)

    def delete(self, name: str) -> None:
        """Remove an object, where there is one."""
        filesystem, root = self._filesystem
        with suppress(FileNotFoundError):
            filesystem.delete_file(f"{root}/{name}")

    def pull(self, skip: Callable[[str], bool] = lambda name: False) -> None:
        """Bring the copy to what is there; files of the copy alone stay.

        Args:
            skip: whether to leave out an object, by its name.
        """
        for file in self.files():
            if not skip(file.name) and not _is_local(file.name) and not self._is_same(file):
                self._download(file, self.path / file.name)

    def pull_file(self, name: str) -> None:
        """Bring one file of the copy to what is there, where it is."""
        file = self.file(name)
        if file is not None and not self._is_same(file):
            self._download(file, self.path / name)

    def pull_folder(self, name: str) -> Path:
        """A folder as a whole, which is replaced only where another is there."""
        files, target = self.files(name), self.path / name
        changed_ms = max((file.changed_ms for file in files), default=0)
        if not files or _changed_ms(target) == changed_ms:
            return target
        coming = target.with_name(f".{uuid4().hex[:12]}-{target.name}")
        try:
            for file in files:
                self._download(file, coming / file.name.removeprefix(f"{name}/"))
            with atomic_folder(target) as aside:
                for path in list(coming.iterdir()):
                    path.rename(aside / path.name)
        finally:
            shutil.rmtree(coming, ignore_errors=True)
        _set_changed(target, changed_ms)
        return target

    def push(self, path: Path) -> None:
        """Upload a file of the copy."""
        from pyarrow.fs import LocalFileSystem, copy_files

        filesystem, root = self._filesystem
        name = self.name_of(path)
        _patiently(
            lambda: copy_files(
                str(path),
                f"{root}/{name}",
                source_filesystem=LocalFileSystem(),
                destination_filesystem=filesystem,
            )
        )
        there = self.file(name)
        if there is not None:
            _set_changed(path, there.changed_ms)

    def push_changed(self, below: str = "") -> None:
        """Upload all files of a folder of the copy that differ from what is there.

        What makes a checkpoint or a store whole comes last; a checkpoint that is replaced is without it
        meanwhile.
        """
        there = {file.name: file for file in self.files(below)}
        names = [self.name_of(path) for path in (self.path / below).rglob("*") if path.is_file()]
        changed = [
            name
            for name in names
            if not _is_local(name) and (name not in there or not self._is_same(there[name]))
        ]
        folders = {name.rpartition("/")[0] for name in changed}
        replaced = {f"{folder}/{_WHOLE}" for folder in folders} & there.keys() & set(names)
        for name in replaced:
            self.delete(name)
        for name in sorted(replaced.union(changed), key=lambda name: (_is_last(name), name)):
            self.push(self.path / name)

    def push_packed(self, folder: Path) -> None:
        """Upload a folder of the copy as one object, so that it is never half there."""
        packed = folder.with_name(folder.name + PACKED)
        with atomic_path(packed) as aside, tarfile.open(aside, "w") as archive:
            for path in sorted(folder.iterdir()):
                archive.add(path, path.name, recursive=False)
        self.push(packed)
        packed.unlink()

    def pull_packed(self, folder: Path) -> None:
        """A folder that `push_packed` uploaded, where it is another than that of the copy."""
        file = self.file(self.name_of(folder) + PACKED)
        if file is None or _changed_ms(folder) == file.changed_ms:
            return
        packed = folder.with_name(folder.name + PACKED)
        self._download(file, packed)
        with atomic_folder(folder) as aside, tarfile.open(packed) as archive:
            archive.extractall(aside, filter="data")
        packed.unlink()
        _set_changed(folder, file.changed_ms)

    def _download(self, file: RemoteFile, path: Path) -> None:
        from pyarrow.fs import LocalFileSystem, copy_files

        filesystem, root = self._filesystem
        aside = path.with_name(f".{uuid4().hex[:12]}-{path.name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            _patiently(
                lambda: copy_files(
                    f"{root}/{file.name}",
                    str(aside),
                    source_filesystem=filesystem,
                    destination_filesystem=LocalFileSystem(),
                )
            )
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
        _set_changed(path, file.changed_ms)

    def _is_same(self, file: RemoteFile) -> bool:
        path = self.path / file.name
        return _changed_ms(path) == file.changed_ms and path.stat().st_size == file.size

    @property
    def root(self) -> str:
        """Its path in pyarrow's file system."""
        return self._filesystem[1]

    @cached_property
    def _filesystem(self) -> tuple[Any, str]:
        return open_filesystem(self.url)


def unreachable(url: str, error: OSError) -> UserError:
    """The line for storage that cannot be used."""
    return UserError(
        url,
        expected="object storage that can be read and written",
        found=first_line(error),
        remedy="check the URL, the credentials and the network",
    )


def _check(url: str) -> None:
    """Reject what may not be printed, and what no name can be appended to."""
    account = re.match(r"\w+://[^/@]*:[^/@]*@", url)
    if account is None and "?" not in url:
        return
    raise UserError(
        url.partition("?")[0],
        expected="a URL without a password and options",
        found="a password" if account else "options behind a ?",
        remedy="give them by the environment (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, ...)",
    )


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ossnet"


def _is_local(name: str) -> bool:
    parts = name.split("/")
    return any(_ASIDE.fullmatch(part) or any(fnmatch(part, local) for local in _LOCAL) for part in parts)


def _is_last(name: str) -> bool:
    return name.rpartition("/")[2] in _LAST


def _changed_ms(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns // 1_000_000
    except OSError:
        return None


def _set_changed(path: Path, changed_ms: int) -> None:
    os.utime(path, ns=(changed_ms * 1_000_000, changed_ms * 1_000_000))


def _patiently(request: Callable[[], Result]) -> Result:
    """The answer of storage that may be away for a while.

    Raises:
        OSError: it stays away, or refuses.
    """
    for attempt in range(_TRIES):
        try:
            return request()
        except OSError as error:
            refused = isinstance(error, FileNotFoundError) or any(code in str(error) for code in _FINAL)
            if refused or attempt + 1 == _TRIES:
                raise
            time.sleep(_PAUSE_S * 2**attempt)
    raise AssertionError
