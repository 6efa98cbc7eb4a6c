"""Turning and scaling a case about its middle, in mm.

The whole volume is resampled, slab by slab: a second or so for a scan of 240 x 240 x 155 voxels and four
modalities on one core, which is why nothing does so by default.

Letters: C channels, X Y Z voxel axes in nibabel's order.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from ossnet.sampling.transforms.planes import empty

_SLAB = 8  # planes at a time


def warp(
    image: Float[Tensor, "C X Y Z"],
    label: UInt8[Tensor, "X Y Z"],
    spacing: Sequence[float],
    *,
    degrees: Sequence[float],
    scale: float,
) -> tuple[Float[Tensor, "C X Y Z"], UInt8[Tensor, "X Y Z"]]:
    """The case turned about the axes x, y and z in turn, and enlarged by `scale`, on its device.

    The image is interpolated linearly and continues beyond its walls as it is there; the label takes the
    nearest voxel, and is background beyond.
    """
    shape, device = image.shape[1:], image.device
    matrix = _to_source(spacing, degrees, scale).to(device)
    last = torch.tensor([max(length - 1, 1) for length in shape], dtype=torch.float32, device=device)
    middle = (torch.tensor(shape, device=device) - 1) / 2
    source = image.float()[None]
    turned, labels = empty(image.shape, image.dtype, device), torch.empty_like(label)
    x, y, z = (torch.arange(length, device=device) - (length - 1) / 2 for length in shape)
    for first in range(0, shape[0], _SLAB):
        slab = slice(first, first + _SLAB)
        places = torch.stack(torch.meshgrid(x[slab], y, z, indexing="ij"), -1) @ matrix.T + middle
        grid = (2 * places / last - 1).flip(-1)[None]  # grid_sample counts axes from the last one
        turned[:, slab] = functional.grid_sample(source, grid, padding_mode="border", align_corners=True)[0]
        labels[slab] = _nearest(label, places)
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
    last = torch.tensor(label.shape, device=label.device) - 1
    inside = ((indices >= 0) & (indices <= last)).all(-1)
    x, y, z = indices.clamp_(min=0).minimum(last).unbind(-1)
    return label[x, y, z] * inside
