"""Coarse to fine without losing anything: lattices, every voxel in doubt, an audit of the rest.

Letters: C channels, K foreground classes, L logits, N points, X Y Z voxel axes in nibabel's order; x y z
points or cells of a lattice.
"""

from dataclasses import dataclass
from functools import reduce

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from ossnet.data.labels.codes import in_class
from ossnet.inference.config import InferenceConfig
from ossnet.inference.methods.audit import Audit, audit
from ossnet.inference.methods.lattice import (
    VoxelState,
    cell_reduce,
    corner_mask,
    is_ambiguous,
    subgrid,
    upsample_linear,
    upsample_nearest,
)
from ossnet.inference.methods.similarity import query_similar
from ossnet.inference.query.activation import predict_classes
from ossnet.inference.query.encoded_volume import EncodedVolume

FIRST_BY_SIGHT = 16
"""Voxels between points of the first lattice, at most, where the encoder tells where to look closer, and
patches show what looks like foreground."""
FIRST = 4
"""The same for networks that see no patches."""
FINEST = 2
"""The same for networks without a coarse prediction: every voxel then has a point beside it."""
FEWEST = 8
"""Points along the shortest axis of a volume, at least, if that leaves enough between them."""
FOLLOWED_BY_SIGHT = 8
"""Between points of different codes so near one another, the change is guessed and then followed; so near
they are wherever the encoder foresees another class."""
FOLLOWED = 2
"""The same for networks that see no patches: what is lost there, nothing else finds."""


def hierarchical_classes(
    volume: EncodedVolume,
    image: Float[Tensor, "C X Y Z"],
    settings: InferenceConfig,
    *,
    overlapping: bool,
) -> tuple[UInt8[Tensor, "X Y Z"], Audit]:
    """Codes, as `predict_classes` gives them, most of them without asking the network.

    A lattice is asked, then of lattices twice as fine the points that may be of another class, be it by what
    those around say (`is_ambiguous`) or, as long as these are far apart, because corners of their cell differ
    or the encoder foresees another class there; at last voxels by the same rule. All others are filled by
    the logits around them. Then whatever touches a change of code is asked, so that pieces are followed to
    where they end. Where the network sees patches, so is what looks like what was found, as long as some of
    it is. Then voxels drawn from those never asked are asked; if one was wrong, all are.
    """
    decided = VoxelState(volume, overlapping=overlapping, device=image.device)
    if decided.known.numel() < settings.dense_max_voxels:
        decided.query(~decided.known)
        return decided.codes, Audit(skipped=0, drawn=0, wrong=0)
    lattices = [_first_lattice(decided, settings.refine_threshold)]
    while lattices[-1].stride > FINEST:
        lattices.append(_finer_lattice(decided, lattices[-1], settings.refine_threshold))
    decided.query(decided.fill(lattices[-1].logits, FINEST, settings.refine_threshold))
    decided.trace_boundary()
    if volume.uses_patches:
        query_similar(
            decided, image, [each.logits for each in lattices[-2:]], share=settings.similarity_budget
        )
    found = audit(decided, settings.audit_points)
    if found.wrong:
        decided.query(~decided.known)
    return decided.codes, found


@dataclass(frozen=True)
class _Level:
    """Points of every so many voxels; what was not asked lies between points of a coarser one."""

    stride: int
    logits: Float[Tensor, "L x y z"]
    refine_mask: Bool[Tensor, "x y z"]
    """Cells that a finer lattice must look into everywhere."""


def _first_stride(volume: EncodedVolume) -> int:
    """A power of two, so small that no coarse cell lies between points."""
    farthest = FIRST_BY_SIGHT if volume.uses_patches else FIRST
    most = min(farthest, volume.prior_edge, min(volume.shape) // FEWEST)
    return max(FINEST, 1 << max(most, 1).bit_length() - 1)


def _first_lattice(decided: VoxelState, refine_threshold: float) -> _Level:
    """Ask a whole lattice."""
    stride = _first_stride(decided.volume)
    todo = torch.zeros_like(decided.known)
    points = subgrid(todo, stride)
    points[...] = True
    logits = decided.ask_points(todo).T.reshape(-1, *points.shape)
    return _Level(stride, logits, _doubtful(decided, logits, stride, refine_threshold))


def _finer_lattice(decided: VoxelState, coarse: _Level, refine_threshold: float) -> _Level:
    """Ask the points in between that may be of another class by what is around them, or in doubtful cells."""
    stride = coarse.stride // 2
    todo = torch.zeros_like(decided.known)
    points = subgrid(todo, stride)
    logits = upsample_linear(coarse.logits, 2, points.shape)
    points[...] = is_ambiguous(logits, refine_threshold, coarse.stride, overlapping=decided.overlapping)
    points |= corner_mask(upsample_nearest(coarse.refine_mask, 2, points.shape))
    points &= ~subgrid(decided.known, stride)
    logits[:, points] = decided.ask_points(todo).T
    return _Level(stride, logits, _doubtful(decided, logits, stride, refine_threshold))


def _doubtful(
    decided: VoxelState, logits: Float[Tensor, "L x y z"], stride: int, refine_threshold: float
) -> Bool[Tensor, "x y z"]:
    """Cells whose corners are far apart and of several codes, or where the encoder foresees another class."""
    shape, overlapping = logits.shape[1:], decided.overlapping
    codes = predict_classes(logits.flatten(1).T, overlapping=overlapping).view(shape)
    if stride <= (FOLLOWED_BY_SIGHT if decided.volume.uses_patches else FOLLOWED):
        return torch.zeros_like(codes, dtype=torch.bool)
    refine_mask = cell_reduce(codes, torch.maximum) != cell_reduce(codes, torch.minimum)
    if decided.volume.prior is None:
        return refine_mask
    chances = _foreseen(decided.volume, torch.ones_like(codes).nonzero() * stride, stride)
    for index, chance in enumerate(chances.T):
        inside = in_class(codes, index, overlapping=overlapping)
        refine_mask |= (chance.view(shape) > refine_threshold) & ~inside
    return refine_mask


def _foreseen(volume: EncodedVolume, points: Int[Tensor, "N 3"], stride: int) -> Float[Tensor, "N K"]:
    """The largest coarse prediction for a voxel of the cells that begin at these points."""
    ends = torch.tensor([0, stride - 1], device=points.device)
    predictions = (volume.prior_at(points + corner) for corner in torch.cartesian_prod(ends, ends, ends))
    return reduce(torch.maximum, predictions)
