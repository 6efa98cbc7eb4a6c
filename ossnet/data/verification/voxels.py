"""A single pass over a file's voxels, some planes at a time, that counts, compares and draws them.

Legend: X Y Z voxel axes in nibabel order.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Float32, Integer, Num, Shaped

from ossnet.data.imaging.geometry import Geometry, to_canonical

_MAX_COUNTED = 1 << 16  # label values up to which voxels are counted in an array
_MAX_VALUES = 256  # more are no label


class ChannelStats:
    """Range and mean of the finite voxels, number of the others, and a digest of all."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        """Start with no voxel of a channel of this shape."""
        self.minimum: float | None = None
        self.maximum: float | None = None
        self.not_finite = 0
        self._total, self._counted = 0.0, 0
        self._sum = hashlib.sha256(repr(shape).encode())

    def add(self, slab: Num[np.ndarray, "X Y Z"]) -> None:
        """Count the next planes of the third axis."""
        self._sum.update(np.ascontiguousarray(slab.T).data)
        if slab.dtype.kind == "f" and not np.isfinite(slab).all():
            finite = slab[np.isfinite(slab)]
            self.not_finite += slab.size - finite.size
        else:
            finite = slab
        if finite.size:
            low, high = float(finite.min()), float(finite.max())
            self.minimum = low if self.minimum is None else min(low, self.minimum)
            self.maximum = high if self.maximum is None else max(high, self.maximum)
            self._total += float(finite.sum(dtype=np.float64))
            self._counted += int(np.count_nonzero(finite))

    @property
    def mean(self) -> float | None:
        """Mean of the finite voxels that are not 0; None where there are none."""
        return self._total / self._counted if self._counted else None

    @property
    def constant(self) -> bool:
        """Whether all voxels have one value."""
        return self.minimum == self.maximum and not self.not_finite

    @property
    def digest(self) -> str:
        """Digest of shape and voxels; equal for a file compressed or converted anew."""
        return self._sum.hexdigest()


class SliceCollector:
    """Collects one plane of a volume that comes by in planes of the file's third axis."""

    def __init__(self, geometry: Geometry, axis: int, index: int) -> None:
        """Collect the plane `index` along R, A or S, the axes 0, 1 and 2."""
        self._geometry, self._canonical = geometry, axis
        self._axis = int(np.flatnonzero(geometry.orientation[:, 0] == axis)[0])
        flipped = geometry.orientation[self._axis, 1] < 0
        self._index = geometry.shape[self._axis] - 1 - index if flipped else index
        shape = list(geometry.shape)
        shape[self._axis] = 1
        self._voxels = np.zeros(shape, np.float32)

    def add(self, first: int, slab: Float32[np.ndarray, "X Y Z"]) -> None:
        """Take what the plane has of these planes of the third axis, which start at `first`."""
        if self._axis < 2:
            part = slab.take([self._index], axis=self._axis)
            self._voxels[:, :, first : first + slab.shape[2]] = part
        elif first <= self._index < first + slab.shape[2]:
            self._voxels[:, :, 0] = slab[:, :, self._index - first]

    @property
    def voxels(self) -> Float32[np.ndarray, "X Y"]:
        """The plane along the two other axes, in the order R, A, S."""
        return to_canonical(self._voxels, self._geometry).take(0, axis=self._canonical)


def count_values(label: Integer[np.ndarray, "X Y Z"]) -> dict[str, int]:
    """Voxels of each value, by rising value; of an image that was taken for a label, the most frequent."""
    counts: Counter[int] = Counter()
    for slab in label:
        if slab.size and slab.min() >= 0 and slab.max() < _MAX_COUNTED:
            numbers = np.bincount(slab.ravel())
            values = np.flatnonzero(numbers)
            numbers = numbers[values]
        else:
            values, numbers = np.unique(slab, return_counts=True)
        counts.update(dict(zip(values.tolist(), numbers.tolist(), strict=True)))
    most = dict(counts.most_common(_MAX_VALUES))
    return {str(value): most[value] for value in sorted(most)}


def count_fractions(slabs: Iterable[Float32[np.ndarray, "X Y Z"]]) -> dict[str, int]:
    """Voxels of each value of a label whose values are not whole; of many values the most frequent."""
    counts: Counter[float] = Counter()
    for slab in slabs:
        values, numbers = np.unique(slab, return_counts=True)
        counts.update(dict(zip(values.tolist(), numbers.tolist(), strict=True)))
    most = dict(counts.most_common(_MAX_VALUES))
    return {f"{value:.6g}": most[value] for value in sorted(most)}


def fraction_outside(label: Shaped[np.ndarray, "X Y Z"], covered: Bool[np.ndarray, "X Y Z"]) -> float:
    """Fraction of a label's foreground that is not covered."""
    inside = whole = 0
    for values, cover in zip(label, covered, strict=True):
        whole += int(np.count_nonzero(values))
        inside += int(np.count_nonzero(cover[values != 0]))
    return 1 - inside / whole if whole else 0.0
