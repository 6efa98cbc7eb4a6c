"""The paper's validation protocol, for comparison only: Dice and IoU of sampled points, not of volumes.

Letters: N points, X Y Z voxel axes in nibabel's order.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool

from ossnet.sampling.candidates import border_within_voxels

Protocol = Literal["brats", "lits"]

POINTS: dict[Protocol, int] = {"brats": 2**17, "lits": 2**14}
BORDER_FRACTION: dict[Protocol, float] = {"brats": 0.0, "lits": 0.4}
BORDER_BAND_VOXELS = 6
"""Voxels by which the paper widens the surface to its border band."""
_EPSILON = 1e-10


@dataclass(frozen=True)
class SampledOverlap:
    """The overlap at sampled points; as in the paper's code a mask that neither has scores 0."""

    dice: float
    iou: float


def sampled_overlap(
    prediction: Bool[np.ndarray, "X Y Z"],
    label: Bool[np.ndarray, "X Y Z"],
    *,
    protocol: Protocol,
    seed: int = 0,
) -> SampledOverlap:
    """Overlap at random points: 2^17 uniform ones (brats), or 2^14 with 40 % in the border band (lits).

    As in the paper's code uniform points never lie on the last voxel of an axis, and points repeat.
    """
    random = np.random.default_rng(seed)
    count = POINTS[protocol]
    points = np.empty((0, 3), int)
    if BORDER_FRACTION[protocol] and label.any():
        band = border_within_voxels(torch.from_numpy(label.astype(np.uint8)), BORDER_BAND_VOXELS).numpy()
        wanted = min(int(count * BORDER_FRACTION[protocol]), len(band))
        points = np.stack(np.unravel_index(random.choice(band, wanted, replace=False), label.shape), 1)
    uniform = random.random((count - len(points), 3)) * (np.array(label.shape) - 1)
    x, y, z = np.concatenate([points, uniform.astype(int)]).T
    one, other = prediction[x, y, z], label[x, y, z]
    shared, total = np.count_nonzero(one & other), np.count_nonzero(one) + np.count_nonzero(other)
    return SampledOverlap(float(2 * shared / (total + _EPSILON)), float(shared / (total - shared + _EPSILON)))
