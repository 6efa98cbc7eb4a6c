"""Bringing intensities to one scale, channel by channel and in place, and their statistics.

Legend: X Y Z voxel axes in nibabel order. Sums and counts run slab by slab (some planes), in float64 and in
integers, so that no second copy of a volume is made.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Shaped, UInt8

from ossnet.data.labels.task import Normalization

Channel = Float32[np.ndarray, "X Y Z"]
Slabs = Callable[[], Iterator[np.ndarray]]

CT_WINDOW = (-200.0, 300.0)
"""Hounsfield units that are kept: soft tissue with contrast agent, as is usual for the abdomen."""
_CT_NAMES = {"ct", "cta", "cbct"}
_RAW_NAMES = {"nonorm"}
"""As nnU-Net calls channels whose intensities stay as they are."""
_SLAB = 1 << 16  # voxels: what one count of 65536 bins is worth
_QUANTILES = (0.005, 0.5, 0.995)


@dataclass(frozen=True)
class Intensity:
    """Statistics of some voxels of one channel before normalization; all 0 where there are none."""

    mean: float
    std: float
    """Unbiased; 0 for fewer than two voxels."""
    minimum: float
    maximum: float
    percentile_0_5: float
    """A value that occurs, as are the other two: the one below the quantile."""
    median: float
    percentile_99_5: float


def default_normalization(modality: str) -> Normalization:
    """`ct` for what is a CT by its name, `none` for nnU-Net's `noNorm`, else `zscore-foreground`."""
    name = modality.lower()
    if name in _RAW_NAMES:
        return "none"
    return "ct" if name in _CT_NAMES else "zscore-foreground"


def foreground(channel: Channel, kind: Normalization) -> np.ndarray:
    """Mask of the voxels that are no background: not zero, or in CT, where air is not zero, above the
    window's start."""
    return channel > CT_WINDOW[0] if kind == "ct" else channel != 0


def normalize(channel: Channel, kind: Normalization) -> None:
    """Change one channel in place.

    `zscore` is the paper's: mean and unbiased deviation of the whole volume, zeros included.
    `zscore-foreground` takes both from the voxels that are not zero and leaves the others at zero, the value
    that padding has too. `ct` cuts to `CT_WINDOW` and then does as `zscore`. In these a constant channel
    becomes 0; `none` changes nothing.
    """
    if kind == "none":
        return
    if kind == "ct":
        np.clip(channel, *CT_WINDOW, out=channel)
    inside = kind == "zscore-foreground"
    mean, std = _moments(_not_zero(channel) if inside else lambda: _slabs(channel))
    if std <= np.finfo(np.float32).tiny:
        channel[...] = 0
        return
    for slab in _slabs(channel):
        background = slab == 0
        slab -= np.float32(mean)
        slab /= np.float32(std)
        if inside:
            slab[background] = 0


def intensity(channel: Channel, label: UInt8[np.ndarray, "X Y Z"] | None = None) -> Intensity:
    """Statistics of the voxels that are not zero, or of those that bear a label."""
    slabs = _not_zero(channel) if label is None else _labeled(channel, label)
    extremes = [(float(slab.min()), float(slab.max())) for slab in slabs()]
    minima, maxima = zip(*extremes, strict=True) if extremes else ((0.0,), (0.0,))
    return Intensity(*_moments(slabs), min(minima), max(maxima), *_quantiles(slabs, _QUANTILES))


def _moments(slabs: Slabs) -> tuple[float, float]:
    count, total, squares = 0, 0.0, 0.0
    for slab in slabs():
        count += slab.size
        total += slab.sum(dtype=np.float64)
    mean = total / max(count, 1)
    for slab in slabs():
        deviation = slab.astype(np.float64) - mean
        squares += float(np.vdot(deviation, deviation))
    return float(mean), float(np.sqrt(squares / (count - 1))) if count > 1 else 0.0


def _quantiles(slabs: Slabs, fractions: Sequence[float]) -> list[float]:
    """Exact order statistics in two counts: of the values' upper 16 bits, then of the lower ones."""
    upper = np.zeros(1 << 16, np.int64)
    for slab in slabs():
        upper += np.bincount(_sortable(slab) >> 16, minlength=1 << 16)
    count = int(upper.sum())
    if not count:
        return [0.0 for _ in fractions]
    ranks = [int(fraction * (count - 1)) for fraction in fractions]
    ends = upper.cumsum()
    bins = [int(np.searchsorted(ends, rank, side="right")) for rank in ranks]
    lower = {home: np.zeros(1 << 16, np.int64) for home in bins}
    for slab in slabs():
        keys = _sortable(slab)
        for home, counts in lower.items():
            counts += np.bincount(keys[keys >> 16 == home] & 0xFFFF, minlength=1 << 16)
    found = [
        home << 16
        | int(np.searchsorted(lower[home].cumsum(), rank - (ends[home] - upper[home]), side="right"))
        for home, rank in zip(bins, ranks, strict=True)
    ]
    return _from_sortable(np.array(found, np.uint32)).astype(float).tolist()


def _sortable(values: np.ndarray) -> np.ndarray:
    """Unsigned integers in the order of the float32 values."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return bits ^ np.where(bits >> 31, np.uint32(0xFFFFFFFF), np.uint32(0x80000000))


def _from_sortable(keys: np.ndarray) -> np.ndarray:
    return (keys ^ np.where(keys >> 31, np.uint32(0x80000000), np.uint32(0xFFFFFFFF))).view(np.float32)


def _slabs(volume: Shaped[np.ndarray, "X Y Z"]) -> Iterator[Shaped[np.ndarray, "x Y Z"]]:
    planes = max(1, _SLAB // max(volume[0].size, 1))
    return (volume[first : first + planes] for first in range(0, len(volume), planes))


def _not_zero(channel: Channel) -> Slabs:
    return lambda: _filled(slab[slab != 0] for slab in _slabs(channel))


def _labeled(channel: Channel, label: UInt8[np.ndarray, "X Y Z"]) -> Slabs:
    return lambda: _filled(
        slab[marks > 0] for slab, marks in zip(_slabs(channel), _slabs(label), strict=True)
    )


def _filled(slabs: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    return (slab for slab in slabs if slab.size)
