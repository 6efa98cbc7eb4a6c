"""Files of the job's node, such as scans, as processes on any node read them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ossnet.distributed.cluster.nodes import nodes
from ossnet.distributed.data.node_files import FilesOfNode, chunk_bytes
from ossnet.output.file_stamp import FileStamp

_SHARE = 0.1  # of Ray's object store that they take on their way, as of case files


@dataclass(frozen=True)
class JobFiles:
    """Reads files of the job's node: in place where a node sees them too, else by copies."""

    node: str
    """Ray's id of the job's node."""
    chunk_bytes: int
    """Bytes of a file that pass Ray's object store at once."""

    @classmethod
    def here(cls) -> "JobFiles":
        """Those of this node; Ray is connected."""
        import ray

        return cls(ray.get_runtime_context().get_node_id(), chunk_bytes(nodes(), _SHARE))

    @contextmanager
    def at_hand(self, files: Sequence[FileStamp]) -> Iterator[Path | None]:
        """Have files at hand in the block.

        Yields:
            The folder below which their copies have the files' own paths (see `copied`); None where this
            node has the files themselves.

        Raises:
            OSError: one cannot be read, or written here.
        """
        if all(file.holds for file in files):
            yield None
            return
        with TemporaryDirectory(prefix="ossnet-", ignore_cleanup_errors=True) as name:
            for file in files:
                self._copy(Path(file.path), copied(Path(file.path), Path(name)))
            yield Path(name)

    def _copy(self, path: Path, target: Path) -> None:
        _, parts = FilesOfNode(path.parent, self.node, self.chunk_bytes).read(path.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as sink:
            sink.writelines(parts)


def copied(path: Path, folder: Path | None) -> Path:
    """Where a file of the job's node is at hand, by what `at_hand` gives."""
    return path if folder is None else folder / path.absolute().relative_to(path.absolute().anchor)


def of_the_job(text: str, folder: Path | None) -> str:
    """A text about copies as it names the job's files."""
    return text if folder is None else text.replace(str(folder), "")
