"""Case files from other nodes: from the one that has the store, or from those that read object storage.

They pass Ray's object store in chunks, each asked for when one before it is written, by tasks that need no
CPU, so that they run where training holds all.
"""

import hashlib
import logging
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ossnet.data.store.cache import DOWNLOADS, CachedCases, DataConfig
from ossnet.data.store.location import ObjectStorage
from ossnet.data.store.store import Manifest
from ossnet.errors import CaseError, UserError

if TYPE_CHECKING:
    from ray import ObjectRef

logger = logging.getLogger(__name__)

AHEAD = 2
"""Chunks of a case that are on their way at a time."""
_MIN_CHUNK = 1 << 18
_MAX_CHUNK = 16 << 20  # larger ones are not faster
_TRIES = 3  # to open a file of a cache that others empty


@dataclass(frozen=True)
class FilesOfNode:
    """The files of a folder of another node, as a `CaseSource`."""

    root: Path
    node: str
    """Ray's id of the node."""
    chunk_bytes: int
    """Bytes of a file that pass Ray's object store at once."""

    def read(self, file: str) -> tuple[int, Iterator[memoryview]]:
        """As `CaseSource.read`."""
        wanted = _File(self.root / file)
        size: int = _get(_on_node(_size, self.node).remote(wanted))
        return size, _chunks(wanted, self.node, size, self.chunk_bytes)


@dataclass(frozen=True)
class ReadingNodes:
    """Object storage that nodes without a GPU read for this one, as a `CaseSource`.

    A reading node keeps the case in its own cache, so that it is fetched once for all nodes that ask for it.
    Where one is lost or cannot read, another takes over; where none is left this node reads by itself.
    """

    url: str
    fingerprint: str
    """The store's."""
    cases: Mapping[str, tuple[str, str | None]]
    """The case and the checksum of each file."""
    config: DataConfig
    chunk_bytes: int
    """Bytes of a file that pass Ray's object store at once."""
    _failed: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, url: str, manifest: Manifest, config: DataConfig, chunk_bytes: int) -> "ReadingNodes":
        """The files of a store."""
        cases = {entry.file: (case, entry.digest) for case, entry in manifest.cases.items()}
        return cls(url, manifest.fingerprint, cases, config, chunk_bytes)

    def read(self, file: str) -> tuple[int, Iterator[memoryview]]:
        """As `CaseSource.read`; a node that is lost while it passes on a file is not asked again."""
        import ray

        for node in reading_nodes(ray.nodes(), file):
            if node in self._failed:
                continue
            try:
                size: int = _get(_on_node(_size, node).remote(self._wanted(file)))
            except CaseError:
                raise
            except (OSError, UserError) as error:
                self._fail(node, error)
            else:
                return size, self._from(node, file, size)
        return ObjectStorage(self.url).read(file)

    def _from(self, node: str, file: str, size: int) -> Iterator[memoryview]:
        try:
            yield from _chunks(self._wanted(file), node, size, self.chunk_bytes)
        except (OSError, UserError) as error:
            self._fail(node, error)
            raise ConnectionError(str(error)) from error  # it is asked for again, of another node

    def _fail(self, node: str, error: Exception) -> None:
        self._failed.add(node)
        logger.warning(f"warning: node {node[:12]} no longer reads cases for others: {error}")

    def _wanted(self, file: str) -> "_CachedFile":
        case, digest = self.cases[file]
        return _CachedFile(self.url, self.fingerprint, self.config, case, file, digest)


@dataclass(frozen=True)
class _File:
    path: Path

    def open(self) -> BinaryIO:
        return self.path.open("rb")


@dataclass(frozen=True)
class _CachedFile:
    """A case's file in the cache of whichever node opens it."""

    url: str
    fingerprint: str
    config: DataConfig
    case: str
    file: str
    digest: str | None

    def open(self) -> BinaryIO:
        """The file, which is fetched first where it is not, or no longer, in the cache.

        Raises:
            UserError: as `CachedCases.read`.
            OSError: others remove it faster than it is opened.
        """
        source = ObjectStorage(self.url)
        cases = CachedCases.of(source, fingerprint=self.fingerprint, where=self.url, config=self.config)
        for _ in range(_TRIES):
            cases.read(self.case, self.file, self.digest)
            with suppress(FileNotFoundError):
                return cases.path(self.file).open("rb")
        raise ConnectionError(f"its cache in {cases.folder} is too small")


def reading_nodes(cluster: Sequence[Mapping[str, Any]], file: str) -> list[str]:
    """The ids of living nodes with CPUs and without a GPU, first the one that is to read this file.

    Every node finds the same order (rendezvous hashing). Files spread evenly over the nodes, and where one is
    lost, only its files are read by others.

    Args:
        cluster: as `ray.nodes()` gives them.
    """
    able = [
        node["NodeID"]
        for node in cluster
        if node["Alive"] and node["Resources"].get("CPU", 0) >= 1 and not node["Resources"].get("GPU", 0)
    ]
    return sorted(able, key=lambda node: hashlib.sha256(f"{node}/{file}".encode()).digest())


def chunk_bytes(cluster: Sequence[Mapping[str, float]], share: float) -> int:
    """The chunk with which all nodes together keep to their share of the object store of the node they read.

    Each node but that one fetches `DOWNLOADS` cases at a time, and of each `AHEAD` chunks are on their way.
    """
    smallest = min(node.get("object_store_memory", 0) or 1 << 31 for node in cluster)
    chunks = max(len(cluster) - 1, 1) * DOWNLOADS * AHEAD
    return int(min(max(share * smallest / chunks, _MIN_CHUNK), _MAX_CHUNK))


def has_gpu(cluster: Sequence[Mapping[str, Any]], node: str) -> bool:
    """Whether a node of the cluster has a GPU."""
    return any(each["NodeID"] == node and each["Resources"].get("GPU", 0) > 0 for each in cluster)


def _chunks(wanted: "_File | _CachedFile", node: str, size: int, chunk: int) -> Iterator[memoryview]:
    """The content as views of Ray's object store; at most `AHEAD` chunks are there at a time."""
    read, coming = _on_node(_read, node), deque["ObjectRef[np.ndarray]"]()
    for start in range(0, size, chunk):
        coming.append(read.remote(wanted, start, min(chunk, size - start)))
        if len(coming) == AHEAD:
            yield memoryview(_get(coming.popleft()))
    while coming:
        yield memoryview(_get(coming.popleft()))


def _on_node(function: Any, node: str) -> Any:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(num_cpus=0)(function).options(scheduling_strategy=there)


def _get(reference: "ObjectRef[Any]") -> Any:
    """The value of a task on another node.

    Raises:
        FileNotFoundError: as the task.
        OSError: as the task, or the node is lost.
        UserError: as the task.
    """
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from error
        if isinstance(error.cause, OSError):
            raise OSError(error.cause.errno, error.cause.strerror) from error
        raise
    except ray.exceptions.RayError as error:
        raise ConnectionError(f"no answer from the node that has it ({type(error).__name__})") from error


def _size(wanted: "_File | _CachedFile") -> int:
    with wanted.open() as file:
        return os.fstat(file.fileno()).st_size


def _read(wanted: "_File | _CachedFile", start: int, size: int) -> np.ndarray:
    with wanted.open() as file:
        return np.fromfile(file, np.uint8, size, offset=start)
