"""Distances of points from the surface of each class, in mm.

Letters: K foreground classes, N points, X Y Z voxel axes in nibabel's order.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def signed_distances(
    masks: Bool[Tensor, "K X Y Z"],
    indices: Int[Tensor, "N 3"],
    *,
    spacing: Sequence[float],
    reach: float,
) -> Float[Tensor, "N K"]:
    """Distance to the surface of every class in units of `reach`, negative inside, cut to [-1, 1].

    Measured between voxel centers: from a voxel outside to the nearest one inside, or the other way round. Of
    a class that a case lacks every point is as far as can be.

    Args:
        masks: of every class, which may overlap.
        indices: voxels of the points.
        spacing: voxel size in mm along X, Y and Z.
        reach: distance in mm beyond which all distances count as equal.
    """
    return torch.stack([_distances(mask, indices, spacing, reach) for mask in masks], 1)


def near_surface(
    mask: Bool[Tensor, "X Y Z"], spacing: Sequence[float], reach: float
) -> tuple[Float[Tensor, "x y z"], Int[Tensor, "3"]]:
    """Signed distances in mm within the box that holds the mask and all that is nearer to it than `reach`.

    The transform runs there only.

    Args:
        mask: some voxels, not all of them.

    Returns:
        The distances and the box's first corner.
    """
    from scipy.ndimage import distance_transform_edt

    margin = torch.tensor([int(reach / size) + 1 for size in spacing])
    low, high = bounds(mask)
    low = (low - margin).clamp(min=0)
    high = torch.minimum(high + margin, torch.tensor(mask.shape))
    x, y, z = (slice(int(start), int(end)) for start, end in zip(low, high, strict=True))
    box = mask[x, y, z].numpy()
    outside, within = (distance_transform_edt(each, sampling=spacing) for each in (~box, box))
    return torch.from_numpy(outside - within).float(), low


def bounds(mask: Bool[Tensor, "X Y Z"]) -> tuple[Int[Tensor, "3"], Int[Tensor, "3"]]:
    """First voxel and one past the last voxel of a mask that has some, along each axis."""
    held = mask.view(torch.uint8)  # the maximum of bytes is faster than `any`
    plane = held.amax(0)
    present = [each.nonzero() for each in (held.amax((1, 2)), plane.amax(1), plane.amax(0))]
    low, high = (torch.stack(ends) for ends in ([p.min() for p in present], [p.max() + 1 for p in present]))
    return low, high


def _distances(
    mask: Tensor, indices: Int[Tensor, "N 3"], spacing: Sequence[float], reach: float
) -> Float[Tensor, "N"]:
    """Signed distances of points from one class, in units of `reach`, cut to [-1, 1]."""
    if not mask.any() or mask.all():  # no surface
        return torch.full((len(indices),), -1.0 if mask.any() else 1.0)
    signed, low = near_surface(mask, spacing, reach)
    distances = torch.ones(len(indices))
    near = ((indices >= low) & (indices < low + torch.tensor(signed.shape))).all(1)
    i, j, k = (indices[near] - low).unbind(1)
    distances[near] = signed[i, j, k].div(reach).clamp(-1, 1)
    return distances
