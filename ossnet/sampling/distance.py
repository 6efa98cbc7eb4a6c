"""How far points lie from the surface of each class, in mm.

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

    Measured between voxel centres: from a voxel outside to the nearest one inside, or the other way round. Of
    a class that a case lacks every point is as far as can be.

    Args:
        masks: of every class, which may overlap.
        indices: voxels of the points.
        spacing: voxel size in mm along X, Y and Z.
        reach: distance in mm beyond which all is alike.
    """
    return torch.stack([_distances(mask, indices, spacing, reach) for mask in masks], 1)


def _distances(
    mask: Tensor, indices: Int[Tensor, "N 3"], spacing: Sequence[float], reach: float
) -> Float[Tensor, "N"]:
    """Of one class; the transform runs only where it can be below the reach."""
    from scipy.ndimage import distance_transform_edt

    inside = mask.nonzero()
    if len(inside) in (0, mask.numel()):  # no surface
        return torch.full((len(indices),), -1.0 if len(inside) else 1.0)
    margin = torch.tensor([int(reach / size) + 1 for size in spacing])
    low = (inside.amin(0) - margin).clamp(min=0)
    high = torch.minimum(inside.amax(0) + margin + 1, torch.tensor(mask.shape))
    x, y, z = (slice(int(start), int(end)) for start, end in zip(low, high, strict=True))
    box = mask[x, y, z].numpy()
    outside, within = (distance_transform_edt(each, sampling=spacing) for each in (~box, box))
    distances = torch.ones(len(indices))
    near = ((indices >= low) & (indices < high)).all(1)
    i, j, k = (indices[near] - low).unbind(1)
    distances[near] = torch.from_numpy(outside - within)[i, j, k].float().div(reach).clamp(-1, 1)
    return distances
