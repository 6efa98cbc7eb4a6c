"""Coarse to fine without losing anything: lattices, every ambiguous voxel, an audit of the rest.

Letters: C channels, K foreground classes, L logits, N points, V voxels, X Y Z voxel axes in nibabel's order;
x y z points or cells of a lattice.
"""

from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from ossnet.data.labels.scheme import ClassScheme
from ossnet.inference.config import InferenceConfig
from ossnet.inference.methods.lattice import (
    cell_reduce,
    corner_mask,
    is_ambiguous,
    slabs,
    subgrid,
    upsample_linear,
    upsample_nearest,
)
from ossnet.inference.methods.similarity import log_odds, query_similar
from ossnet.inference.methods.voxel_state import VoxelState
from ossnet.inference.query.encoded_volume import EncodedVolume

MAX_STRIDE_WITH_PATCHES = 16
"""Voxels between points of the first lattice, at most, where the encoder says where to refine, and patches
show what resembles foreground."""
MAX_STRIDE = 4
"""The largest first stride of networks that see no patches."""
MIN_STRIDE = 2
"""The stride of the last lattice: every voxel then has a point next to it."""
MIN_POINTS_PER_AXIS = 8
"""Points along the shortest axis of a volume, at least, if that leaves enough between them."""
TRACED_STRIDE_WITH_PATCHES = 8
"""At this stride or a finer one a change between points of different codes is interpolated and then traced,
and the encoder's prediction is no longer used."""
TRACED_STRIDE = 2
"""The stride of tracing for networks without patches, where a lost component is found by nothing else."""
AUDIT_CONFIDENCE = 0.95


def hierarchical_classes(
    volume: EncodedVolume, image: Float[Tensor, "C X Y Z"], settings: InferenceConfig, scheme: ClassScheme
) -> tuple[UInt8[Tensor, "X Y Z"], "Audit"]:
    """Codes of a volume, most of them without querying the network, and how that was checked.

    A lattice is queried, then of lattices twice as fine the points that may be of another class: by what the
    points around say (`is_ambiguous`) or, as long as these are far apart, because corners of their cell
    differ or the encoder predicts another class there. Single voxels follow by the same rule; all others are
    interpolated from the logits around them. Then whatever touches a change of code is queried, so that
    connected components are followed to where they end. Where the network sees patches, so is what resembles
    the components found, as long as some of it belongs to them. Finally voxels drawn from those never queried
    are queried; if one of them was wrong, all are.
    """
    state = VoxelState(volume, scheme, device=image.device)
    if state.evaluated.numel() < settings.dense_max_voxels:
        state.query_rest()
        return state.codes, Audit(skipped=0, drawn=0, wrong=0)
    lattices = [_first_lattice(state, settings.refine_threshold)]
    while lattices[-1].stride > MIN_STRIDE:
        lattices.append(_finer_lattice(state, lattices[-1], settings.refine_threshold))
    state.query(state.interpolate_rest(lattices[-1].logits, MIN_STRIDE, settings.refine_threshold))
    state.trace_boundary()
    if volume.uses_patches:
        odds = [log_odds(each.logits, scheme) for each in lattices[-2:]]
        lattices.clear()
        query_similar(state, image, odds, budget=settings.similarity_budget)
    result = audit(state, settings.audit_points)
    if result.wrong:
        state.query_rest()
    return state.codes, result


@dataclass(frozen=True)
class _Level:
    """Points of every so many voxels; those not queried are interpolated from a coarser lattice."""

    stride: int
    logits: Float[Tensor, "L x y z"]
    refine_mask: Bool[Tensor, "x y z"]
    """Cells in which a finer lattice queries every point."""


def _first_stride(volume: EncodedVolume) -> int:
    """A power of two, so small that no coarse cell lies between points."""
    farthest = MAX_STRIDE_WITH_PATCHES if volume.uses_patches else MAX_STRIDE
    largest = min(farthest, volume.prior_edge, min(volume.shape) // MIN_POINTS_PER_AXIS)
    return max(MIN_STRIDE, 1 << max(largest, 1).bit_length() - 1)


def _first_lattice(state: VoxelState, refine_threshold: float) -> _Level:
    """Query a whole lattice."""
    stride = _first_stride(state.volume)
    points = torch.ones_like(subgrid(state.evaluated, stride))
    logits = torch.empty(state.scheme.logits, *points.shape, device=points.device)
    state.query_points(points, stride, logits)
    return _Level(stride, logits, _refine_mask(state, logits, stride, refine_threshold))


def _finer_lattice(state: VoxelState, coarse: _Level, refine_threshold: float) -> _Level:
    """Query the points in between that are ambiguous by those around them, or lie in cells to refine."""
    stride = coarse.stride // 2
    points = torch.zeros_like(subgrid(state.evaluated, stride))
    logits = coarse.logits.new_empty(len(coarse.logits), *points.shape)
    for cells in slabs(coarse.logits, 2):
        planes = slice(cells.start * 2, cells.stop * 2)
        part = upsample_linear(coarse.logits[:, cells.start : cells.stop + 1], 2, points[planes].shape)
        logits[:, planes] = part
        points[planes] = is_ambiguous(part, refine_threshold, coarse.stride, state.scheme)
    if coarse.refine_mask.any():
        points |= corner_mask(upsample_nearest(coarse.refine_mask, 2, points.shape))
    points &= ~subgrid(state.evaluated, stride)
    state.query_points(points, stride, logits)
    return _Level(stride, logits, _refine_mask(state, logits, stride, refine_threshold))


def _refine_mask(
    state: VoxelState, logits: Float[Tensor, "L x y z"], stride: int, refine_threshold: float
) -> Bool[Tensor, "x y z"]:
    """Cells whose corners are far apart and of several codes, or where the encoder predicts another class."""
    shape, scheme = logits.shape[1:], state.scheme
    if stride <= (TRACED_STRIDE_WITH_PATCHES if state.volume.uses_patches else TRACED_STRIDE):
        return torch.zeros(shape, dtype=torch.bool, device=logits.device)
    codes = scheme.decide(logits.flatten(1).T).view(shape)
    refine_mask = cell_reduce(codes, torch.maximum) != cell_reduce(codes, torch.minimum)
    if state.volume.prior is None:
        return refine_mask
    prior = _coarse_prior(state.volume, torch.ones_like(codes).nonzero() * stride, stride)
    for index, probability in enumerate(prior.T):
        inside = scheme.in_class(codes, index)
        refine_mask |= (probability.view(shape) > refine_threshold) & ~inside
    return refine_mask


def _coarse_prior(volume: EncodedVolume, points: Int[Tensor, "N 3"], stride: int) -> Float[Tensor, "N K"]:
    """The largest coarse prediction for a voxel of the cells that begin at these points."""
    ends = torch.tensor([0, stride - 1], device=points.device)
    predictions = (volume.prior_at(points + corner) for corner in torch.cartesian_prod(ends, ends, ends))
    return reduce(torch.maximum, predictions)


@dataclass(frozen=True)
class Audit:
    """The check of a random sample of the voxels that were never queried."""

    skipped: int
    """Voxels that were interpolated before the audit."""
    drawn: int
    """Number of these voxels that the audit queried."""
    wrong: int
    """Number of these that the network decides otherwise."""

    @property
    def error_bound(self) -> float:
        """Upper bound of the fraction of wrong voxels among the skipped, at 95 % confidence (Clopper,
        Pearson)."""
        from scipy.stats import binomtest

        if self.drawn == self.skipped:
            return self.wrong / self.skipped if self.skipped else 0.0
        test = binomtest(self.wrong, self.drawn, alternative="less")
        return float(test.proportion_ci(AUDIT_CONFIDENCE, method="exact").high)


def audit(state: VoxelState, points: int, seed: int = 0) -> Audit:
    """Query so many of the voxels that are not evaluated, drawn without replacement."""
    skipped = state.evaluated.numel() - int(state.evaluated.count_nonzero())
    drawn = _draw(state.evaluated.flatten(), skipped, min(points, skipped), np.random.default_rng(seed))
    interpolated = state.codes.view(-1)[drawn]
    state.query(drawn)
    wrong = int((state.codes.view(-1)[drawn] != interpolated).count_nonzero())
    return Audit(skipped, len(drawn), wrong)


def _draw(
    evaluated: Bool[Tensor, " V"], skipped: int, points: int, random: np.random.Generator
) -> Int[Tensor, " N"]:
    """The first voxels in random order that are not evaluated; no list of all of them is made."""
    voxels = evaluated.numel()

    def first_skipped(candidates: int) -> Int[Tensor, " N"]:
        places = torch.from_numpy(random.choice(voxels, candidates, replace=False)).to(evaluated.device)
        return places[~evaluated[places]][:points]

    drawn = first_skipped(min(voxels, 2 * points * -(-voxels // max(skipped, 1))))
    return drawn if len(drawn) == points else first_skipped(voxels)
