"""The paper's coarse to fine (section 3.3, as its code has it): plain, or guided by the coarse prediction.

It loses connected components that hold no point of the first lattice near another component, or that the
coarse prediction does not show. It is here for comparison; `hierarchical` is the method to use.

Letters: X Y Z voxel axes in nibabel's order.
"""

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor
from torch.nn import functional

from ossnet.data.labels.scheme import ClassScheme
from ossnet.errors import UserError
from ossnet.inference.methods.places import true_places
from ossnet.inference.methods.voxel_state import VoxelState
from ossnet.inference.query.encoded_volume import EncodedVolume

STRIDES = (4, 2, 1)


def paper_classes(
    volume: EncodedVolume, scheme: ClassScheme, *, guided: bool, device: torch.device
) -> UInt8[Tensor, "X Y Z"]:
    """Codes of a volume: a lattice of every fourth voxel, then twice what lies near foreground.

    What was decided once is not queried again, which the paper's code does without another result. Any class
    counts as foreground, where the paper has one.

    Args:
        guided: query only the points of the first lattice that the coarse prediction shows as foreground.

    Raises:
        UserError: `guided` for a network without the auxiliary head.
    """
    state = VoxelState(volume, scheme, device=device)
    first = _guided_lattice(volume, device) if guided else _lattice(state.evaluated, STRIDES[0])
    state.query(true_places(first))
    for stride in STRIDES[1:]:
        foreground = (state.codes > 0).float()[None, None]
        near = functional.max_pool3d(foreground, 3**stride, stride=1, padding=3**stride // 2)[0, 0] > 0
        state.query(true_places(near & _lattice(state.evaluated, stride) & ~state.evaluated))
    return state.codes


def _lattice(like: Bool[Tensor, "X Y Z"], stride: int) -> Bool[Tensor, "X Y Z"]:
    points = torch.zeros_like(like)
    points[::stride, ::stride, ::stride] = True
    return points


def _guided_lattice(volume: EncodedVolume, device: torch.device) -> Bool[Tensor, "X Y Z"]:
    """Points of the first lattice that the coarse prediction, interpolated, shows as foreground."""
    if volume.prior is None:
        where, expected = "method paper-guided", "a network with the auxiliary head"
        raise UserError(where, expected=expected, found="one without", remedy="take paper")
    points = torch.zeros(volume.shape, dtype=torch.bool, device=device)
    voxels = _lattice(points, STRIDES[0]).nonzero()
    shown = volume.prior_between(voxels).amax(1) > 0.5
    points[voxels[shown].unbind(1)] = True
    return points
