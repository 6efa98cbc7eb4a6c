"""Distances of points from the surface of each class, in mm.

Letters: K foreground classes, N points, X Y Z voxel axes in nibabel's order.
"""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ossnet.sampling.grid import Shape


def signed_distances(
    masks: Iterable[Bool[Tensor, "X Y Z"]],
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
) -> tuple[Float[Tensor, "x y z"], Shape]:
    """Signed distances in mm within the box that holds the mask and all that is nearer to it than `reach`.

    What lies further away than `reach` is infinitely far, on either side.

    Args:
        mask: some voxels, not all of them.

    Returns:
        The distances and the box's first corner.
    """
    margin = [int(reach / size) + 1 for size in spacing]
    corner, box = crop_to(mask, margin)
    outside, within = (_nearest_squared(each, spacing, reach) for each in (box, ~box))
    return outside.sqrt_().sub_(within.sqrt_()), corner


def crop_to(mask: Bool[Tensor, "X Y Z"], margin: Sequence[int]) -> tuple[Shape, Bool[Tensor, "x y z"]]:
    """The first corner and the voxels of the box that holds all of a mask that has some, with a margin."""
    held = mask.view(torch.uint8)  # the maximum of bytes is faster than `any`
    plane = held.amax(0)
    corner, box = list[int](), mask
    for axis, present in enumerate((held.amax((1, 2)), plane.amax(1), plane.amax(0))):
        places = present.nonzero()
        low = max(int(places.min()) - margin[axis], 0)
        high = min(int(places.max()) + 1 + margin[axis], mask.shape[axis])
        corner.append(low)
        box = box.narrow(axis, low, high - low)
    x, y, z = corner
    return (x, y, z), box


def _nearest_squared(
    mask: Bool[Tensor, "x y z"], spacing: Sequence[float], reach: float
) -> Float[Tensor, "x y z"]:
    """Squared distance in mm to the nearest voxel of the mask, exact up to `reach` and infinite far beyond.

    A minimum over every axis in turn (Felzenszwalb and Huttenlocher, 2012), of the few voxels in reach.
    """
    squared = torch.where(mask, 0.0, torch.inf)
    for axis, size in enumerate(spacing):
        nearest = squared.clone()
        for step in range(1, min(int(reach / size), mask.shape[axis] - 1) + 1):
            length, further = mask.shape[axis] - step, squared + (step * size) ** 2
            for target, source in ((step, 0), (0, step)):
                part = nearest.narrow(axis, target, length)
                torch.minimum(part, further.narrow(axis, source, length), out=part)
        squared = nearest
    return squared


def _distances(
    mask: Tensor, indices: Int[Tensor, "N 3"], spacing: Sequence[float], reach: float
) -> Float[Tensor, "N"]:
    """Signed distances of points from one class, in units of `reach`, cut to [-1, 1]."""
    if not mask.any() or mask.all():  # no surface
        return torch.full((len(indices),), -1.0 if mask.any() else 1.0, device=mask.device)
    signed, corner = near_surface(mask, spacing, reach)
    signed.div_(reach).clamp_(-1, 1)
    places = indices - torch.tensor(corner, device=mask.device)
    last = torch.tensor(signed.shape, device=mask.device) - 1
    near = ((places >= 0) & (places <= last)).all(1)
    x, y, z = torch.minimum(places.clamp(min=0), last).unbind(1)
    return torch.where(near, signed[x, y, z], 1.0)
