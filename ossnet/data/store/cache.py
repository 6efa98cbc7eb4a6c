"""A node's cache of case files that it cannot map where the store lies.

All processes of a node share one folder. A file is written by one of them while the others wait for it, so
that each is fetched once a node; it gets its name when it is complete and its checksum is right. The files
used least recently are removed to make room; what is mapped stays readable until it is let go of.
"""

import fcntl
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from ossnet.data.store.case_file import StoredCase, check_digest, read_case
from ossnet.data.store.location import CaseSource
from ossnet.errors import CaseError, StoreError, UserError
from ossnet.output.atomic_write import NO_SPACE

_PART = ".part"  # ends the name of a file that is being written; its writer holds a lock on it
_LOCK = ".lock"
DOWNLOADS = 4
"""Files that all processes of a node fetch at a time."""
_TRIES = 3  # of a download, where the network fails
_WAIT_S = 0.05
_OPEN = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
GIB = 2**30


@dataclass(frozen=True)
class DataConfig:
    """How case files reach a node that cannot map them where the store lies."""

    cache_gib: float | None = None
    """Disk space of a node for case files in GiB; by default half of what is free there."""
    cache_folder: str | None = None
    """Folder of these files on each node, and of a list of the files that were checked, with the node's own
    variables in it (`$SCRATCH/ossnet`); by default one of the user's in the system's temporary folder."""
    object_store_share: float = 0.1
    """Largest share of Ray's object store that case files may take on their way to other nodes."""
    read_by: Literal["each-node", "cpu-nodes"] = "each-node"
    """Who reads object storage: each node for itself, or nodes without a GPU for those with one. Then a case
    is read once for all of these, but passes the network twice."""
    strict: bool = True
    """Whether a case that cannot be read ends the run; otherwise it is left out, and another of the split
    takes its place."""
    max_lost: float = 0.1
    """Largest share of the training cases, and of the validation cases, that may be left out so."""

    def __post_init__(self) -> None:
        if self.cache_gib is not None and self.cache_gib <= 0:
            raise UserError("cache_gib", expected="more than 0", found=str(self.cache_gib))
        if not 0 < self.object_store_share <= 1:
            share = str(self.object_store_share)
            raise UserError("object_store_share", expected="more than 0, at most 1", found=share)
        if not 0 <= self.max_lost <= 1:
            raise UserError("max_lost", expected="at least 0, at most 1", found=str(self.max_lost))

    def folder(self) -> Path:
        """The cache's folder on this node."""
        if self.cache_folder is not None:
            return Path(os.path.expandvars(self.cache_folder)).expanduser()
        return Path(tempfile.gettempdir()) / f"ossnet-cache-{os.getuid()}"


@dataclass(frozen=True)
class CachedCases:
    """The cases of a store, each fetched to this node's cache when it is first read here.

    Threads and processes may read at the same time.
    """

    source: CaseSource
    folder: Path
    """The cache's folder."""
    fingerprint: str
    """The store's, so that several stores share a cache."""
    where: str
    """The store, for messages."""
    limit_bytes: int | None = None
    """Most bytes in the folder; by default half of what is free there, the cached files included."""

    @classmethod
    def of(cls, source: CaseSource, *, fingerprint: str, where: str, config: DataConfig) -> "CachedCases":
        """The cases with the cache that a configuration describes."""
        limit = None if config.cache_gib is None else int(config.cache_gib * GIB)
        return cls(source, config.folder(), fingerprint, where, limit)

    def read(self, case: str, file: str, digest: str | None) -> StoredCase:
        """Map a case of the cache into memory; it is fetched first where it is missing.

        Args:
            case: the case's id, for messages.
            file: its file, relative to the store.
            digest: its checksum, where the store has one.

        Raises:
            CaseError: the file is gone, damaged or not one of ours.
            StoreError: it cannot be fetched now, or the cache cannot hold it.
            Both name the case and the node.
        """
        path = self.path(file)
        try:
            return _map(path) or self._fetch(path, case, file, digest)
        except FileNotFoundError as error:
            expected, remedy = f"its file {file}", "prepare the store again"
            raise CaseError(self._place(case), expected=expected, found="none", remedy=remedy) from error
        except OSError as error:
            found = os.strerror(error.errno) if error.errno else (str(error).splitlines() or [""])[0]
            if error.errno in NO_SPACE:
                remedy = "free some space there, or set data.cache_folder or a lower data.cache_gib"
                raise self._error(case, f"room for it in {self.folder}", found, remedy) from error
            if error.filename is not None:  # of the cache's folder: networks name none
                raise self._folder_error(case, error) from error
            raise self._error(case, "to read it from there", found, "try again with --resume") from error

    def path(self, file: str) -> Path:
        """Where the cache has a file of the store, if it has it."""
        return store_folder(self.folder, self.fingerprint) / Path(file).name

    def _fetch(self, path: Path, case: str, file: str, digest: str | None) -> StoredCase:
        """Write the file aside, check it, give it its name. Others who want it wait meanwhile."""
        self._make_folder(path.parent, case)
        part = path.with_name(path.name + _PART)
        with _locked(part) as sink:
            found = _map(path)
            if found is None:
                try:
                    with self._turn():
                        self._download(sink, case, file)
                    found = self._check(part, case, digest)
                    with _locked(self.folder / _LOCK):  # so that who counts the files sees each once
                        part.replace(path)
                except BaseException:
                    part.unlink(missing_ok=True)
                    raise
            else:
                part.unlink(missing_ok=True)
        return found

    def _make_folder(self, folder: Path, case: str) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            (folder / _LOCK).touch()
        except OSError as error:
            raise self._folder_error(case, error) from error

    def _folder_error(self, case: str, error: OSError) -> StoreError:
        expected, remedy = f"a cache in {self.folder}", "set data.cache_folder to a folder of the node's disk"
        return self._error(case, expected, os.strerror(error.errno or 0), remedy)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait until fewer than `DOWNLOADS` files are being fetched on this node."""
        while True:
            for number in range(DOWNLOADS):
                path = self.folder / f".download-{number}"
                with os.fdopen(os.open(path, _OPEN, 0o600), "r+b") as file, suppress(BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    yield
                    return
            time.sleep(_WAIT_S)

    def _download(self, sink: BinaryIO, case: str, file: str) -> None:
        for attempt in range(1, _TRIES + 1):
            try:
                size, parts = self.source.read(file)
                self._make_room(sink, size, case)
                sink.seek(0)
                sink.writelines(parts)
                sink.flush()
            except FileNotFoundError:
                raise
            except OSError as error:
                if attempt == _TRIES:
                    raise
                if error.errno in NO_SPACE:
                    self._remove(0)
                else:
                    time.sleep(attempt)
            else:
                return

    def _make_room(self, sink: BinaryIO, size: int, case: str) -> None:
        """Remove what was used least recently until a file of this size fits, and give it that size."""
        while True:
            with _locked(self.folder / _LOCK):
                files = self._files()
                used = sum(each.size for each in files)
                limit = self._limit(used)
                if size > limit:
                    raise self._error(
                        case,
                        f"a cache of at least {size / GIB:.3g} GiB for it in {self.folder}",
                        f"{limit / GIB:.3g} GiB",
                        "raise data.cache_gib, or free some space there",
                    )
                used -= os.fstat(sink.fileno()).st_size  # of an earlier attempt
                for each in files:
                    if used + size <= limit:
                        break
                    used -= each.size if each.remove() else 0
                if used + size <= limit:
                    sink.truncate(size)
                    return
            time.sleep(_WAIT_S)  # until another process has written the file that takes the room

    def _remove(self, most: int) -> None:
        """Remove files until those left have at most so many bytes."""
        with _locked(self.folder / _LOCK):
            files = self._files()
            used = sum(each.size for each in files)
            for each in files:
                if used <= most:
                    return
                used -= each.size if each.remove() else 0

    def _files(self) -> list["_File"]:
        """All files of the cache, those of other stores included, the least recently used first."""
        files = []
        for path in self.folder.glob("*/*.arrow*"):
            with suppress(FileNotFoundError):
                status = path.stat()
                files.append(_File(status.st_mtime_ns, status.st_size, path))
        return sorted(files)

    def _limit(self, used: int) -> int:
        if self.limit_bytes is not None:
            return self.limit_bytes
        free = os.statvfs(self.folder)
        return (free.f_bavail * free.f_frsize + used) // 2

    def _check(self, part: Path, case: str, digest: str | None) -> StoredCase:
        """Map what was fetched, if it is what was asked for."""
        try:
            stored = read_case(part)
            check_digest(part, digest, self._place(case))
        except CaseError as error:
            raise error.at(self._place(case)) from error
        return stored

    def _error(self, case: str, expected: str, found: str, remedy: str) -> StoreError:
        return StoreError(self._place(case), expected=expected, found=found, remedy=remedy)

    def _place(self, case: str) -> str:
        return case_place(self.where, case)


def store_folder(cache: Path, fingerprint: str) -> Path:
    """The folder of a store in a node's cache.

    Args:
        cache: the cache's folder.
        fingerprint: the store's.
    """
    return cache / fingerprint[:16]


def case_place(store: str | Path, case: str) -> str:
    """A case of a store as this node sees it, for messages."""
    return f"{store}, case {case}, node {socket.gethostname()}"


@dataclass(frozen=True, order=True)
class _File:
    used_ns: int
    size: int
    path: Path

    def remove(self) -> bool:
        """Remove the file, unless a living process is writing it."""
        if not self.path.name.endswith(_PART):
            self.path.unlink(missing_ok=True)
            return True
        with suppress(OSError), self.path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.path.unlink(missing_ok=True)
            return True
        return False


def _map(path: Path) -> StoredCase | None:
    """Map a cached file and mark it as used; None where it is not there."""
    try:
        os.utime(path)
        return read_case(path)
    except OSError:  # not there; why nothing can be there is reported when it is to be written
        return None
    except UserError:  # removed in between; else it is damaged, and is fetched again
        path.unlink(missing_ok=True)
        return None


@contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    """Open a file (made where it is missing) that nobody else has locked; at its end it may have moved."""
    while True:
        with os.fdopen(os.open(path, _OPEN, 0o600), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                current = os.path.samestat(os.fstat(file.fileno()), path.stat())
            except FileNotFoundError:
                current = False
            if current:  # else whoever had it has renamed or removed it
                yield file
                return
