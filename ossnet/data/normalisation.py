"""Bringing intensities to one scale, channel by channel and in place.

Legend: X Y Z voxel axes in nibabel order. Sums run slab by slab in float64, so that no second copy of a
volume is made.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from ossnet.data.task import Normalisation

Channel = Float32[np.ndarray, "X Y Z"]

CT_WINDOW = (-200.0, 300.0)
"""Hounsfield units that are kept: soft tissue with contrast agent, as is usual for the abdomen."""
_CT_NAMES = {"ct", "cta", "cbct"}


@dataclass(frozen=True)
class Intensity:
    """Statistics of one channel's voxels that are not zero, before normalisation."""

    mean: float
    std: float
    """Unbiased; 0 for fewer than two voxels."""
    minimum: float
    maximum: float


def default_normalisation(modalities: tuple[str, ...]) -> Normalisation:
    """`ct` where every modality is a CT by its name, else `zscore-foreground`."""
    return "ct" if all(name.lower() in _CT_NAMES for name in modalities) else "zscore-foreground"


def normalise(channel: Channel, kind: Normalisation) -> None:
    """Change one channel in place.

    `zscore` is the paper's: mean and unbiased deviation of the whole volume, zeros included.
    `zscore-foreground` takes both from the voxels that are not zero and leaves the others at zero, the value
    that padding has too. `ct` cuts to `CT_WINDOW` and then does as `zscore`. A constant channel becomes 0.
    """
    if kind == "ct":
        np.clip(channel, *CT_WINDOW, out=channel)
    foreground = kind == "zscore-foreground"
    mean, std = _moments(channel, foreground=foreground)
    background = channel == 0 if foreground else None
    channel -= np.float32(mean)
    if std > np.finfo(np.float32).tiny:
        channel /= np.float32(std)
    else:
        channel[...] = 0
    if background is not None:
        channel[background] = 0


def intensity(channel: Channel) -> Intensity:
    """Statistics of the voxels that are not zero (all 0 where there are none)."""
    extremes = [(float(slab.min()), float(slab.max())) for slab in _slabs(channel, foreground=True)]
    mean, std = _moments(channel, foreground=True)
    minima, maxima = zip(*extremes, strict=True) if extremes else ((0.0,), (0.0,))
    return Intensity(mean, std, min(minima), max(maxima))


def _moments(channel: Channel, *, foreground: bool) -> tuple[float, float]:
    count, total, squares = 0, 0.0, 0.0
    for slab in _slabs(channel, foreground=foreground):
        count += slab.size
        total += slab.sum(dtype=np.float64)
    mean = total / max(count, 1)
    for slab in _slabs(channel, foreground=foreground):
        deviation = slab.astype(np.float64) - mean
        squares += float(np.vdot(deviation, deviation))
    return float(mean), float(np.sqrt(squares / (count - 1))) if count > 1 else 0.0


def _slabs(channel: Channel, *, foreground: bool) -> Iterator[np.ndarray]:
    for slab in channel:
        values = slab[slab != 0] if foreground else slab
        if values.size:
            yield values
