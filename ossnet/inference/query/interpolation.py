"""What lies between the voxels of an image: patches and values there, linear in the eight voxels around.

Letters: C channels, N points, P patch edge, X Y Z voxel axes in nibabel's order; x y z those of another grid.
"""

from collections.abc import Sequence
from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ossnet.inference.query.grid import QueryGrid
from ossnet.sampling.patches import PatchSource


def interpolate_patches(
    source: PatchSource, places: Float[Tensor, "N 3"], shape: Sequence[int], axes: Sequence[int]
) -> Float[Tensor, "N C P P P"]:
    """Patches around places of an image of this shape; those beyond its outermost voxels are as there.

    Args:
        axes: along which places lie between voxels.
    """
    low, high, share = _neighbors(places, shape)
    total: Tensor | None = None
    for corner in product((False, True), repeat=len(axes)):
        voxels, weight = low.clone(), torch.ones_like(share[:, 0])
        for axis, upper in zip(axes, corner, strict=True):
            weight = weight * (share[:, axis] if upper else 1 - share[:, axis])
            if upper:
                voxels[:, axis] = high[:, axis]
        patches, weight = source.gather(voxels), weight.view(-1, 1, 1, 1, 1)
        total = patches.mul_(weight) if total is None else total.addcmul_(patches, weight)
    assert total is not None
    return total


def resample_image(image: Float[Tensor, "C X Y Z"], grid: QueryGrid) -> Float[Tensor, "C x y z"]:
    """The image on another grid."""
    for axis, edge in enumerate(grid.shape):
        voxels = torch.arange(edge, device=image.device)[:, None].expand(-1, 3)
        places = grid.places(voxels)[:, axis : axis + 1]
        low, high, share = _neighbors(places, image.shape[1 + axis : 2 + axis])
        before, after = (image.index_select(1 + axis, ends[:, 0]) for ends in (low, high))
        image = torch.lerp(before, after, share[:, 0].view(-1, *[1] * (2 - axis)))
    return image


def _neighbors(
    places: Float[Tensor, "N D"], shape: Sequence[int]
) -> tuple[Int[Tensor, "N D"], Int[Tensor, "N D"], Float[Tensor, "N D"]]:
    """The voxels before and after places along each axis, and how far towards the latter they lie."""
    last = torch.tensor(shape, device=places.device) - 1
    inside = torch.minimum(places.clamp(min=0), last)
    low = inside.long()
    return low, torch.minimum(low + 1, last), inside - low
