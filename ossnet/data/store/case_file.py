"""The file of a case in a store: an Arrow IPC file whose voxels are read through a memory map, without a
copy.

Legend: C channels, X Y Z voxel axes in nibabel order.

The file holds one record batch of one row with two binary columns, `image` (two bytes a voxel, as in
`quantization.py`) and `label` (C order), and under the schema's metadata key `ossnet` a JSON object with all
the rest. Under the key `sha256` stands the checksum of that text and of both columns. Equal cases give equal
bytes.
"""

import hashlib
import json
from dataclasses import dataclass
from errno import ENOENT
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float16, Float32, Int16, UInt8

from ossnet.config_tree import from_dict, to_dict
from ossnet.data.imaging.geometry import Geometry, Spacing
from ossnet.data.labels.task import Task
from ossnet.data.store.quantization import Quantization, Storage
from ossnet.data.store.statistics import CaseStatistics
from ossnet.errors import CaseError
from ossnet.output.atomic_write import atomic_path
from ossnet.output.views import Picture, grid_text, notebook_view, one_line
from ossnet.output.views.slices import planes_through

_METADATA = b"ossnet"
_DIGEST = b"sha256"
_STORED: dict[Storage, str] = {"float16": "<f2", "int16": "<i2"}


@dataclass(frozen=True)
class CaseHeader:
    """The header of a case file: everything but its voxels."""

    id: str
    group: str
    geometry: Geometry
    statistics: CaseStatistics
    scales: tuple[Quantization, ...] = ()
    """The quantization of each channel where the image is stored as whole numbers: turns them into
    intensities."""


@dataclass(frozen=True)
class StoredCase:
    """A prepared case on the working grid; arrays from a store are read-only views of the mapped file."""

    header: CaseHeader
    voxels: Float16[np.ndarray, "C X Y Z"] | Int16[np.ndarray, "C X Y Z"]
    """The image as stored; see `image`."""
    label: UInt8[np.ndarray, "X Y Z"]
    """Label indices: 0 background, then the task's labels in order."""
    task: Task | None = None
    """What channels and labels mean; None where only the file is known."""

    def __repr__(self) -> str:
        labels = len(self.statistics.class_counts) - 1
        return one_line(
            "StoredCase", f"{self.id}: {self._grid}, {len(self.voxels)} channels, {labels} labels"
        )

    def _repr_html_(self) -> str:
        labels = range(1, len(self.statistics.class_counts))
        names = [f"label {index}" for index in labels] if self.task is None else list(self.task.labels)
        return notebook_view(self.id, facts=[self._grid], pictures=[self.picture()], classes=names)

    def picture(self, caption: str = "") -> Picture:
        """Slices through the first channel, with the labels' outlines.

        Args:
            caption: what stands before the modality's name.
        """
        modality = "the first channel" if self.task is None else self.task.modalities[0]
        labels = range(1, len(self.statistics.class_counts))
        planes = planes_through(self.channel(0), self.label)
        return Picture.of(planes, labels, self.spacing, caption=" ".join(filter(None, [caption, modality])))

    @property
    def _grid(self) -> str:
        return grid_text(self.statistics.shape, self.spacing)

    @property
    def id(self) -> str:
        """The case's id."""
        return self.header.id

    @property
    def image(self) -> Float16[np.ndarray, "C X Y Z"] | Float32[np.ndarray, "C X Y Z"]:
        """Normalized intensities: the mapped half floats themselves, or whole numbers decoded each time."""
        if not self.scales:
            return self.voxels
        channels = zip(self.scales, self.voxels, strict=True)
        return np.stack([scale.decode(channel) for scale, channel in channels])

    def channel(self, index: int) -> Float16[np.ndarray, "X Y Z"] | Float32[np.ndarray, "X Y Z"]:
        """Normalized intensities of one modality."""
        voxels = self.voxels[index]
        return self.scales[index].decode(voxels) if self.scales else voxels

    @property
    def scales(self) -> tuple[Quantization, ...]:
        """The quantization of each channel where `voxels` are whole numbers: turns any selection of them into
        intensities."""
        return self.header.scales

    @property
    def geometry(self) -> Geometry:
        """The grid of the case's files, and the way to it."""
        return self.header.geometry

    @property
    def statistics(self) -> CaseStatistics:
        """Shape, spacing, class counts and intensities."""
        return self.header.statistics

    @property
    def spacing(self) -> Spacing:
        """Voxel size in mm along R, A and S."""
        return self.statistics.spacing


def write_case(path: Path, case: StoredCase) -> None:
    """Write a case atomically.

    Raises:
        OSError: the folder is not there, or the file cannot be written.
    """
    import pyarrow as pa

    if not path.parent.is_dir():  # taken away after an error elsewhere: it must not come back
        raise FileNotFoundError(ENOENT, "no such folder", str(path.parent))
    header = case.header
    voxels = case.voxels.astype(_STORED[header.statistics.storage], copy=False)
    columns = {"image": _binary(voxels), "label": _binary(case.label)}
    text = json.dumps(to_dict(header), sort_keys=True, separators=(",", ":"))
    metadata = {_METADATA: text.encode(), _DIGEST: _digest(text.encode(), *columns.values()).encode()}
    schema = pa.schema([(name, column.type) for name, column in columns.items()], metadata)
    batch = pa.record_batch(list(columns.values()), schema=schema)
    with (
        atomic_path(path) as aside,
        pa.OSFile(str(aside), "wb") as sink,
        pa.ipc.new_file(sink, schema) as writer,
    ):
        writer.write_batch(batch)


def read_case(path: Path) -> StoredCase:
    """Map a case into memory; voxels are read from disk when they are touched.

    Raises:
        CaseError: the file is missing or not one of ours.
    """
    batch, header, _ = _open(path)
    shape = header.statistics.shape
    try:
        image, label = (batch.column(name).buffers()[2] for name in ("image", "label"))
        return StoredCase(
            header=header,
            voxels=np.frombuffer(image, _STORED[header.statistics.storage]).reshape(-1, *shape),
            label=np.frombuffer(label, np.uint8).reshape(shape),
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise _not_ours(path, error) from error


def read_case_header(path: Path) -> CaseHeader:
    """Read the header of a case file, without its voxels.

    Raises:
        CaseError: the file is missing or not one of ours.
    """
    return _open(path)[1]


def read_digest(path: Path) -> str | None:
    """The checksum that a case file carries; files of before have none.

    Raises:
        CaseError: the file is missing or not one of ours.
    """
    digest = _open(path)[2].get(_DIGEST)
    return None if digest is None else str(digest.decode())


def compute_digest(path: Path) -> str:
    """The checksum of what a case file holds; takes 0.06 s for 80 MB that are in memory.

    Raises:
        CaseError: the file is missing or not one of ours.
    """
    batch, _, metadata = _open(path)
    return _digest(metadata[_METADATA], *batch.columns)


def check_digest(path: Path, digest: str | None, place: str) -> None:
    """Compare a case file with its checksum, where the manifest has one.

    Raises:
        CaseError: the file has another content, or is not one of ours.
    """
    found = digest and compute_digest(path)
    if found != digest:
        raise CaseError(
            place,
            expected=f"the checksum {str(digest)[:12]}",
            found=str(found)[:12],
            remedy="prepare the store again, or copy it again",
        )


def is_case_file(path: Path) -> bool:
    """Whether a file carries our mark: it is no link, and Arrow's schema has our metadata."""
    import pyarrow as pa

    if path.is_symlink() or not path.is_file():
        return False
    try:
        with pa.memory_map(str(path)) as mapped:
            return _METADATA in (pa.ipc.open_file(mapped).schema.metadata or {})
    except (OSError, pa.ArrowInvalid):
        return False


def _open(path: Path) -> tuple[Any, CaseHeader, dict[bytes, bytes]]:
    """The mapped record batch, the header and the schema's metadata."""
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as mapped:
            reader = pa.ipc.open_file(mapped)
            metadata = reader.schema.metadata
            header = from_dict(CaseHeader, json.loads(metadata[_METADATA]), str(path))
            return reader.get_batch(0), header, metadata
    except (OSError, pa.ArrowInvalid, KeyError, TypeError, ValueError) as error:
        raise _not_ours(path, error) from error


def _not_ours(path: Path, error: Exception) -> CaseError:
    return CaseError(
        path,
        expected="a case of the store",
        found=f"none ({str(error).splitlines()[0]})",
        remedy="prepare the store again",
    )


def _digest(text: bytes, *columns: Any) -> str:
    digest = hashlib.sha256(text)
    for column in columns:
        digest.update(column.buffers()[2])
    return digest.hexdigest()


def _binary(array: np.ndarray) -> Any:
    """A single binary value over the array's own memory."""
    import pyarrow as pa

    voxels = pa.py_buffer(np.ascontiguousarray(array))
    ends = pa.py_buffer(np.array([0, voxels.size], np.int64))
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, ends, voxels])
