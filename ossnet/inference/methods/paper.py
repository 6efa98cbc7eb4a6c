"""The paper's coarse to fine (section 3.3, as its code has it): plain, or guided by the coarse prediction.

It loses pieces that hold no point of the first lattice near another piece, or that the coarse prediction does
not show. Here for comparison; `hierarchical` is what to use.

Letters: X Y Z voxel axes in nibabel's order.
"""

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor
from torch.nn import functional

from ossnet.inference.methods.lattice import VoxelState
from ossnet.inference.query.encoded_volume import EncodedVolume

STRIDES = (4, 2, 1)


def paper_classes(
    volume: EncodedVolume, *, prior: bool, overlapping: bool, device: torch.device
) -> UInt8[Tensor, "X Y Z"]:
    """Codes of `predict_classes`: a lattice of every fourth voxel, then twice what lies near foreground.

    What was decided once is not asked again, which the paper's code does without another result. Any class
    counts as foreground, where the paper has one.

    Args:
        prior: of the first lattice ask only the points that the coarse prediction shows as foreground.

    Raises:
        ValueError: `prior` for a network without the auxiliary head.
    """
    decided = VoxelState(volume, overlapping=overlapping, device=device)
    decided.query(_first(volume, device) if prior else _lattice(decided.known, STRIDES[0]))
    for stride in STRIDES[1:]:
        foreground = (decided.codes > 0).float()[None, None]
        near = functional.max_pool3d(foreground, 3**stride, stride=1, padding=3**stride // 2)[0, 0] > 0
        decided.query(near & _lattice(decided.known, stride) & ~decided.known)
    return decided.codes


def _lattice(like: Bool[Tensor, "X Y Z"], stride: int) -> Bool[Tensor, "X Y Z"]:
    points = torch.zeros_like(like)
    points[::stride, ::stride, ::stride] = True
    return points


def _first(volume: EncodedVolume, device: torch.device) -> Bool[Tensor, "X Y Z"]:
    """Points of the first lattice that the coarse prediction, interpolated, shows as foreground."""
    if volume.prior is None:
        msg = "method paper-guided: expected a network with the auxiliary head, found one without: take paper"
        raise ValueError(msg)
    points = torch.zeros(volume.shape, dtype=torch.bool, device=device)
    voxels = _lattice(points, STRIDES[0]).nonzero()
    shown = volume.prior_between(voxels).amax(1) > 0.5
    points[voxels[shown].unbind(1)] = True
    return points
