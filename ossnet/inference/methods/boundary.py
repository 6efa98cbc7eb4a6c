"""Where codes change: over a whole box, or around single voxels.

Letters: N places, X Y Z voxel axes in nibabel's order.
"""

from itertools import product

import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from ossnet.inference.methods.lattice import over_neighbors
from ossnet.inference.methods.places import ravel, unravel

_BACKGROUND_LAST = 255


def boundary_mask(codes: UInt8[Tensor, "X Y Z"], *, corners: bool) -> Bool[Tensor, "X Y Z"]:
    """Mask of the voxels where one of the six neighbors has another code, or (`corners`) one of the 26
    another class.

    Components that are connected by corners only are followed that way; of holes in them the faces suffice.
    """
    boundary = torch.zeros_like(codes, dtype=torch.bool)
    for axis in range(3):
        length = codes.shape[axis] - 1
        before, after = codes.narrow(axis, 0, length), codes.narrow(axis, 1, length)
        change = before != after
        boundary.narrow(axis, 0, length).logical_or_(change)
        boundary.narrow(axis, 1, length).logical_or_(change)
    if corners:
        classes = torch.where(codes == 0, _BACKGROUND_LAST, codes)
        boundary |= over_neighbors(codes, torch.maximum) != codes
        boundary |= over_neighbors(classes, torch.minimum) < codes
    return boundary


def places_beside(
    places: Int[Tensor, " N"], codes: UInt8[Tensor, "X Y Z"], *, corners: bool
) -> Int[Tensor, " M"]:
    """Places of the neighbors of some voxels that `boundary_mask` holds because of these voxels.

    Some may be given more than once.
    """
    voxels, own, flat = unravel(places, codes.shape), codes.view(-1)[places], codes.view(-1)
    edges = torch.tensor(codes.shape, device=codes.device)
    found = [places[:0]]
    for step in product((-1, 0, 1), repeat=3):
        faces = sum(map(abs, step))
        if faces == 0 or (faces > 1 and not corners):
            continue
        near = voxels + torch.tensor(step, device=codes.device)
        inside = ((near >= 0) & (near < edges)).all(1)
        if faces > 1:
            inside &= own != 0
        beside = ravel(near[inside], codes.shape)
        found.append(beside[flat[beside] != own[inside]])
    return torch.cat(found)
