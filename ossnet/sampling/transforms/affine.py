"""Turning and scaling a case about its middle, in mm.

The whole volume is resampled, slab by slab: a second or so for a scan of 240 x 240 x 155 voxels and four
modalities on one core, which is why nothing does so by default.

Letters: C channels, X Y Z voxel axes in nibabel's order.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from ossnet.sampling.transforms.planes import to_float32

_SLAB = 8  # planes at a time


def warp(
    image: Float[np.ndarray, "C X Y Z"],
    label: UInt8[np.ndarray, "X Y Z"],
    spacing: Sequence[float],
    *,
    degrees: Sequence[float],
    scale: float,
) -> tuple[np.ndarray, np.ndarray]:
    """The case turned about the axes x, y and z in turn, and enlarged by `scale`.

    The image is interpolated linearly and continues beyond its walls as it is there; the label takes the
    nearest voxel, and is background beyond.
    """
    shape = image.shape[1:]
    matrix = _to_source(spacing, degrees, scale)
    last = torch.tensor([max(length - 1, 1) for length in shape], dtype=torch.float32)
    middle = (torch.tensor(shape) - 1) / 2
    source = to_float32(image)[None]
    voxels = torch.from_numpy(label.copy())
    turned, labels = np.empty(image.shape, image.dtype), np.empty(label.shape, label.dtype)
    x, y, z = (torch.arange(length) - center for length, center in zip(shape, middle, strict=True))
    image_out, label_out = torch.from_numpy(turned), torch.from_numpy(labels)
    for first in range(0, shape[0], _SLAB):
        slab = slice(first, first + _SLAB)
        places = torch.stack(torch.meshgrid(x[slab], y, z, indexing="ij"), -1) @ matrix.T + middle
        grid = (2 * places / last - 1).flip(-1)[None]  # grid_sample counts axes from the last one
        sampled = functional.grid_sample(source, grid, padding_mode="border", align_corners=True)[0]
        image_out[:, slab] = sampled
        label_out[slab] = _nearest(voxels, places)
    return turned, labels


def _to_source(spacing: Sequence[float], degrees: Sequence[float], scale: float) -> Float[Tensor, "3 3"]:
    """The matrix from a voxel of the result to its source, both counted from the middle."""
    rotation = torch.eye(3, dtype=torch.float64)
    for axis, angle in enumerate(degrees):
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        one, other = (axis + 1) % 3, (axis + 2) % 3
        turn = torch.eye(3, dtype=torch.float64)
        turn[one, one] = turn[other, other] = cos
        turn[one, other], turn[other, one] = -sin, sin
        rotation = turn @ rotation
    sizes = torch.tensor(spacing, dtype=torch.float64)
    return (rotation.T / scale * sizes / sizes[:, None]).float()


def _nearest(label: Tensor, places: Float[Tensor, "x Y Z 3"]) -> Tensor:
    indices = places.round().long()
    inside = ((indices >= 0) & (indices < torch.tensor(label.shape))).all(-1)
    x, y, z = indices.clamp_(min=0).minimum(torch.tensor(label.shape) - 1).unbind(-1)
    return label[x, y, z] * inside
