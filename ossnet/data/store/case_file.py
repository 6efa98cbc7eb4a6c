"""One case of a store: an Arrow IPC file whose voxels are read through a memory map, without a copy.

Legend: C channels, X Y Z voxel axes in nibabel order.

The file holds one record batch of one row with two binary columns, `image` (two bytes a voxel, as in
`quantization.py`) and `label` (C order), and under the schema's metadata key `ossnet` a JSON object with all
the rest. Equal cases give equal bytes.
"""

import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float16, Float32, Int16, UInt8

from ossnet.config_tree import from_dict, to_dict
from ossnet.data.imaging.geometry import Geometry, Spacing
from ossnet.data.imaging.normalization import Intensity
from ossnet.data.store.quantization import Scale, Storage
from ossnet.errors import UserError

_METADATA = b"ossnet"
_STORED: dict[Storage, str] = {"float16": "<f2", "int16": "<i2"}


@dataclass(frozen=True)
class StoredCase:
    """A prepared case on the working grid; arrays from a store are read-only views of the mapped file."""

    id: str
    group: str
    voxels: Float16[np.ndarray, "C X Y Z"] | Int16[np.ndarray, "C X Y Z"]
    """The image as stored; see `image` and `scales`."""
    label: UInt8[np.ndarray, "X Y Z"]
    """Class indices: 0 background, then the task's labels in order."""
    geometry: Geometry
    intensities: tuple[Intensity, ...]
    """Of the voxels that are not zero, one a channel."""
    foreground_intensities: tuple[Intensity, ...]
    """Of the voxels that bear a label, one a channel."""
    class_counts: tuple[int, ...]
    """Voxels of each class index, background first."""
    errors: tuple[float, ...]
    """How far a stored intensity is from the normalized one at most, one a channel, in its units."""
    scales: tuple[Scale, ...] = ()
    """One a channel where `voxels` are whole numbers: turns any selection of them into intensities."""

    @property
    def image(self) -> Float16[np.ndarray, "C X Y Z"] | Float32[np.ndarray, "C X Y Z"]:
        """Normalized intensities: the mapped half floats themselves, or whole numbers decoded each time."""
        if not self.scales:
            return self.voxels
        channels = zip(self.scales, self.voxels, strict=True)
        return np.stack([scale.decode(channel) for scale, channel in channels])

    @property
    def spacing(self) -> Spacing:
        """Voxel size in mm along R, A and S."""
        return self.geometry.spacing


@dataclass(frozen=True)
class CaseHeader:
    """What a case file says of itself without its voxels."""

    id: str
    group: str
    shape: tuple[int, int, int, int]
    """C X Y Z."""
    geometry: Geometry
    intensities: tuple[Intensity, ...]
    foreground_intensities: tuple[Intensity, ...]
    class_counts: tuple[int, ...]
    storage: Storage
    errors: tuple[float, ...]
    scales: tuple[Scale, ...]


def write_case(path: Path, case: StoredCase) -> None:
    """Write a case aside, then rename it into place; the folder must be there."""
    import pyarrow as pa

    facts = CaseHeader(
        id=case.id,
        group=case.group,
        shape=case.voxels.shape,
        geometry=case.geometry,
        intensities=case.intensities,
        foreground_intensities=case.foreground_intensities,
        class_counts=case.class_counts,
        storage="int16" if case.scales else "float16",
        errors=case.errors,
        scales=case.scales,
    )
    voxels = case.voxels.astype(_STORED[facts.storage], copy=False)
    columns = {"image": _binary(voxels), "label": _binary(case.label)}
    text = json.dumps(to_dict(facts), sort_keys=True, separators=(",", ":"))
    schema = pa.schema([(name, column.type) for name, column in columns.items()], {_METADATA: text.encode()})
    batch = pa.record_batch(list(columns.values()), schema=schema)
    aside = path.with_name(f".{uuid.uuid4().hex}-{path.name}")
    try:
        with pa.OSFile(str(aside), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            writer.write_batch(batch)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def read_case(path: Path) -> StoredCase:
    """Map a case into memory; voxels are read from disk when they are touched.

    Raises:
        UserError: the file is missing or not one of ours.
    """
    batch, facts = _open(path)
    image, label = (batch.column(name).buffers()[2] for name in ("image", "label"))
    return StoredCase(
        id=facts.id,
        group=facts.group,
        voxels=np.frombuffer(image, _STORED[facts.storage]).reshape(facts.shape),
        label=np.frombuffer(label, np.uint8).reshape(facts.shape[1:]),
        geometry=facts.geometry,
        intensities=facts.intensities,
        foreground_intensities=facts.foreground_intensities,
        class_counts=facts.class_counts,
        errors=facts.errors,
        scales=facts.scales,
    )


def read_facts(path: Path) -> CaseHeader:
    """As `read_case`, without the voxels."""
    return _open(path)[1]


def _open(path: Path) -> tuple[Any, CaseHeader]:
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as mapped:
            reader = pa.ipc.open_file(mapped)
            values = json.loads(reader.schema.metadata[_METADATA])
            return reader.get_batch(0), from_dict(CaseHeader, values, str(path))
    except (OSError, pa.ArrowInvalid, KeyError, TypeError, ValueError) as error:
        msg = (
            f"{path}: expected a case of the store, found none ({str(error).splitlines()[0]}); prepare again"
        )
        raise UserError(msg) from error


def _binary(array: np.ndarray) -> Any:
    """One binary value over the array's own memory."""
    import pyarrow as pa

    voxels = pa.py_buffer(np.ascontiguousarray(array))
    ends = pa.py_buffer(np.array([0, voxels.size], np.int64))
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, ends, voxels])
