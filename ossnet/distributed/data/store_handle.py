"""A store as processes on any node of a cluster open it, whether or not the node has its files.

A node maps the files where it finds them. Where it does not, it fetches a case into its cache when it is
first read: from object storage itself, or from another node through Ray's object store (`node_files.py`);
`chunk_bytes` there has the arithmetic of the bound.

Ray Data carries the order only (`sharding.py`). As rows of a map without CPUs, 27 cases of 512^3 (402 MB
each) through an object store of 1.5 GB started 22 readers at once, lay there 50 to 97 s before they were
used, and spilled 10.4 GB; in chunks nothing is spilled, and a worker keeps to 66 MB of its own.
"""

import json
import zlib
from dataclasses import dataclass
from pathlib import Path

from ossnet.config_tree import from_dict, to_dict
from ossnet.data import Store
from ossnet.data.store.cache import CachedCases, DataConfig
from ossnet.data.store.case_file import StoredCase
from ossnet.data.store.location import CaseSource
from ossnet.data.store.store import CaseReader, Manifest, MappedCases, case_reader
from ossnet.distributed.cluster.nodes import nodes
from ossnet.distributed.data.node_files import FilesOfNode, ReadingNodes, chunk_bytes, has_gpu
from ossnet.output.remote.url import parse_location


@dataclass(frozen=True)
class StoreHandle:
    """What a process on any node needs to open a store."""

    location: str
    """Its absolute path, or its URL."""
    manifest: bytes
    """The manifest as compressed JSON: a node without the files cannot read it."""
    home: str
    """Ray's id of the node that has the files, where they lie in a folder."""
    chunk_bytes: int
    """Bytes of a file that pass Ray's object store at once."""

    @classmethod
    def of(cls, store: Store, config: DataConfig) -> "StoreHandle":
        """A handle of a store that this node can read; Ray is connected."""
        import ray

        manifest = zlib.compress(json.dumps(to_dict(store.manifest)).encode())
        home = ray.get_runtime_context().get_node_id()
        return cls(store.location, manifest, home, chunk_bytes(nodes(), config.object_store_share))

    def open(self, config: DataConfig) -> Store:
        """The store, whose cases this node maps, or fetches when they are read."""
        import ray

        root = parse_location(self.location)
        manifest = from_dict(Manifest, json.loads(zlib.decompress(self.manifest)), self.location)
        here = ray.get_runtime_context().get_node_id()
        reader: CaseReader
        if isinstance(root, Path) and here != self.home:
            files = FilesOfNode(root, self.home, self.chunk_bytes)
            reader = _NearestCases(
                MappedCases.of(root, manifest, config), self._fetched(files, manifest, config)
            )
        elif isinstance(root, str) and config.read_by == "cpu-nodes" and has_gpu(ray.nodes(), here):
            others = ReadingNodes.of(root, manifest, config, self.chunk_bytes)
            reader = self._fetched(others, manifest, config)
        else:
            reader = case_reader(root, manifest, config)
        return Store(root, manifest, reader=reader)

    def _fetched(self, source: CaseSource, manifest: Manifest, config: DataConfig) -> CachedCases:
        return CachedCases.of(source, fingerprint=manifest.fingerprint, where=self.location, config=config)


@dataclass(frozen=True)
class _NearestCases:
    """Maps the files that this node has, as on a shared file system, and fetches the others."""

    mapped: MappedCases
    fetched: CaseReader

    def read(self, case: str, file: str, digest: str | None) -> StoredCase:
        reader = self.mapped if (self.mapped.root / file).is_file() else self.fetched
        return reader.read(case, file, digest)
