"""Voxels that resemble foreground already found: a cheap classifier of every voxel, where few were queried.

Letters: C channels, F features, K classes, L logits, N points, X Y Z voxel axes in nibabel's order; x y z
points of a lattice.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from ossnet.data.labels.scheme import ClassScheme
from ossnet.inference.methods.lattice import VoxelState, subgrid, unravel, upsample_linear

CUBE_EDGE = 3
"""Edge in voxels of the cube around a voxel that it is compared by."""
MAX_SAMPLES_PER_SIDE = 2**13
"""Voxels inside and outside a class, at most, that a discriminant is trained on."""
MAX_LOG_ODDS = 10.0
"""Beyond these the log odds of a class say no more."""
RIDGE_FRACTION = 1e-2
"""The addition that keeps the covariance invertible, as a fraction of its mean variance."""
PLANES_AT_ONCE = 4
"""Planes that are scored together."""
SCORE_MARGIN = 0.2
"""Margin below the lowest score in the class down to which voxels are queried, in distances between the means
of both sides."""
EXTRA_QUERIES_FRACTION = 0.5
"""Voxels to query without a hit after the last one, as a fraction of those up to it; some more are added."""
MIN_EXTRA_QUERIES = 2**13
"""Smallest number of voxels that are added."""


def query_similar(
    state: VoxelState,
    image: Float[Tensor, "C X Y Z"],
    lattices: Sequence[Float[Tensor, "L _ _ _"]],
    *,
    budget: float,
) -> None:
    """Query every voxel that resembles a class about as much as some evaluated voxel inside it.

    For each class the linear discriminant of evaluated voxels inside and outside is trained on their 3^3
    surroundings and on what lattices around them say, and applied everywhere, which costs one convolution.
    What was interpolated as inside the class need not be queried. The likeliest come first, until half as
    many were queried without a hit as it took to the last hit, and some more. This is repeated until it shows
    nothing new: each connected component found may lower the threshold for the next.

    Args:
        lattices: logits at the points of the one or two finest lattices, that of every second voxel last.
        budget: how many more to query, as a fraction of the voxels queried before; at least
            `MIN_EXTRA_QUERIES`.
    """
    odds = [_log_odds(logits, state.scheme) for logits in lattices]
    before = None
    while before is None or not torch.equal(state.codes, before):
        before, extra = state.codes.clone(), max(MIN_EXTRA_QUERIES, int(budget * state.volume.n_queried))
        for index, of_class in enumerate(zip(*odds, strict=True)):
            _query_class(state, image, index, of_class, extra)
        state.trace_boundary()


def _query_class(
    state: VoxelState,
    image: Float[Tensor, "C X Y Z"],
    index: int,
    lattices: Sequence[Float[Tensor, "_ _ _"]],
    extra: int,
) -> None:
    in_class = state.scheme.in_class(state.codes, index)
    inside, outside = state.evaluated & in_class, state.evaluated & ~in_class
    for side in (inside, outside):
        subgrid(side, 2 ** len(lattices))[...] = False  # of these points no coarser lattice says anything
    if not inside.any() or not outside.any():
        return
    score = _score(image, _around(lattices, state.codes.shape), inside, outside)
    gap = score[inside].mean() - score[outside].mean()
    candidates = score >= score[inside].min() - SCORE_MARGIN * gap
    del inside, outside
    candidates &= ~in_class
    candidates &= ~state.evaluated
    _query_by_score(state, candidates, score, index, extra)


def _log_odds(logits: Float[Tensor, "L *points"], scheme: ClassScheme) -> Float[Tensor, "K *points"]:
    margin = scheme.margins(logits.flatten(1).T).clamp(-MAX_LOG_ODDS, MAX_LOG_ODDS)
    return margin.T.reshape(-1, *logits.shape[1:])


def _around(lattices: Sequence[Float[Tensor, "_ _ _"]], shape: Sequence[int]) -> Float[Tensor, "X Y Z"]:
    """The evidence of the points around each voxel for a class; those of the finest lattice do not count
    themselves."""
    *coarser, finest = lattices
    around = upsample_linear(finest[None], 2, shape)[0]
    for lattice in coarser:
        points = subgrid(around, 2)
        points[...] = upsample_linear(lattice[None], 2, points.shape)[0]
    return around


def _query_by_score(
    state: VoxelState,
    candidates: Bool[Tensor, "X Y Z"],
    score: Float[Tensor, "X Y Z"],
    index: int,
    extra: int,
) -> None:
    """Query candidates, the highest score first, until enough of them after the last hit were none.

    Enough are `EXTRA_QUERIES_FRACTION` times as many as up to the last hit, and `extra` more.
    """
    queried, enough = 0, extra
    while queried < enough and candidates.any():
        scores = score[candidates]
        threshold = scores.kthvalue(max(1, len(scores) - (enough - queried) + 1)).values
        todo = candidates & (score >= threshold)
        candidates &= ~todo
        state.query(todo)
        queried += int(todo.count_nonzero())
        hits = todo & state.scheme.in_class(state.codes, index)
        if hits.any():
            beyond = todo & (score < score[hits].min())
            enough = int((1 + EXTRA_QUERIES_FRACTION) * (queried - int(beyond.count_nonzero()))) + extra


def _score(
    image: Float[Tensor, "C X Y Z"],
    around: Float[Tensor, "X Y Z"],
    inside: Bool[Tensor, "X Y Z"],
    outside: Bool[Tensor, "X Y Z"],
) -> Float[Tensor, "X Y Z"]:
    """The discriminant of both sides at every voxel; written over `around`."""
    one, other = (
        torch.cat([_surroundings(image, voxels), around[voxels.unbind(1)][:, None]], 1)
        for voxels in (_sample(inside), _sample(outside))
    )
    weights = _discriminant(one, other)
    score = around.mul_(weights[-1])
    _convolve(image, weights[:-1].reshape(len(image), CUBE_EDGE, CUBE_EDGE, CUBE_EDGE), score)
    return score


def _surroundings(image: Float[Tensor, "C X Y Z"], voxels: Int[Tensor, "N 3"]) -> Float[Tensor, "N F"]:
    """Cubes of `CUBE_EDGE` around voxels, zero beyond the image; no padded copy of it is made."""
    steps = torch.arange(CUBE_EDGE, device=voxels.device) - CUBE_EDGE // 2
    last = torch.tensor(image.shape[1:], device=voxels.device) - 1
    values = []
    for step in torch.cartesian_prod(steps, steps, steps):
        places = voxels + step
        nearest = places.clamp(min=0).minimum(last)
        x, y, z = nearest.unbind(1)
        values.append(image[:, x, y, z].where((places == nearest).all(1), 0.0))
    return torch.stack(values, 2).transpose(0, 1).flatten(1)


def _convolve(
    image: Float[Tensor, "C X Y Z"], kernel: Float[Tensor, "C E E E"], total: Float[Tensor, "X Y Z"]
) -> None:
    """Add a convolution to one channel, by planes in two dimensions, which takes a third of the time."""
    edge, length = kernel.shape[1], len(total)
    matrices = kernel.movedim(1, 0).contiguous()
    for start in range(0, length, PLANES_AT_ONCE):
        planes = image[:, start : start + PLANES_AT_ONCE].movedim(1, 0)
        for step, part in enumerate(functional.conv2d(planes, matrices, padding=edge // 2).unbind(1)):
            first = start + edge // 2 - step
            inside = slice(max(first, 0), min(first + len(part), length))
            total[inside] += part[inside.start - first : inside.stop - first]


def _sample(mask: Bool[Tensor, "X Y Z"]) -> Int[Tensor, "N 3"]:
    """At most `MAX_SAMPLES_PER_SIDE` voxels of a mask, evenly distributed over it."""
    places = mask.flatten().nonzero()[:, 0]
    return unravel(places[:: -(-len(places) // MAX_SAMPLES_PER_SIDE)], mask.shape)


def _discriminant(one: Float[Tensor, "N F"], other: Float[Tensor, "M F"]) -> Float[Tensor, " F"]:
    """Weights of the linear discriminant of two sides, which are centered in place."""
    between = one.mean(0) - other.mean(0)
    first, second = (side.sub_(side.mean(0)).T @ side for side in (one, other))
    covariance = (first + second) / (len(one) + len(other))
    covariance.diagonal().add_(RIDGE_FRACTION * covariance.diagonal().mean() + 1e-12)
    return torch.linalg.solve(covariance, between)
