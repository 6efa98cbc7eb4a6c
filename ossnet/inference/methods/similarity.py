"""Voxels that resemble foreground already found: a cheap classifier of every voxel, where few were queried.

Letters: C channels, E edge of a cube, F features, K classes, L logits, M N points, X Y Z voxel axes in
nibabel's order; x y z points of a lattice.
"""

from collections.abc import Sequence
from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from ossnet.data.labels.scheme import ClassScheme
from ossnet.inference.methods.lattice import interpolate_at, slabs, subgrid, upsample_linear
from ossnet.inference.methods.places import true_places, unravel
from ossnet.inference.methods.voxel_state import VoxelState

CUBE_EDGE = 3
"""Edge in voxels of the cube around a voxel that it is compared by."""
MAX_SAMPLES_PER_SIDE = 2**13
"""Voxels inside and outside a class, at most, that a discriminant is trained on."""
MAX_SAMPLES_OF_SCORES = 2**20
MOST_LIKELY = 1 / 2
"""Fraction of a volume that is searched at once; where the network finds more there, the search goes on."""
MAX_LOG_ODDS = 10.0
"""Beyond these the log odds of a class say no more."""
RIDGE_FRACTION = 1e-2
"""The addition that keeps the covariance invertible, as a fraction of its mean variance."""
VOXELS_AT_ONCE = 2**17
"""Voxels that are convolved together: of more, oneDNN may take three times as long for each."""
PLANES_AT_ONCE = 6
"""Planes of these: two more around them make eight, the width of vector instructions."""
SLAB = 16
"""Planes whose surrounding lattice points are interpolated together."""
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
    lattices: Sequence[Float[Tensor, "K _ _ _"]],
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
        lattices: log odds of each class (`log_odds`) at the points of the one or two finest lattices, that of
            every second voxel last.
        budget: how many more to query, as a fraction of the voxels queried before; at least
            `MIN_EXTRA_QUERIES`.
    """
    before = None
    while before != state.n_changed:
        before, extra = state.n_changed, max(MIN_EXTRA_QUERIES, int(budget * state.volume.n_queried))
        for index, of_class in enumerate(zip(*lattices, strict=True)):
            _query_class(state, image, index, of_class, extra)
        state.trace_boundary()


def _query_class(
    state: VoxelState,
    image: Float[Tensor, "C X Y Z"],
    index: int,
    lattices: Sequence[Float[Tensor, "_ _ _"]],
    extra: int,
) -> None:
    codes, evaluated = state.codes.view(-1), state.evaluated.view(-1)
    known = _known(state, 2 ** len(lattices))
    in_class = state.scheme.in_class(codes[known], index)
    inside, outside = known[in_class], known[~in_class]
    if not len(inside) or not len(outside):
        return
    del known, in_class
    score = _score(image, lattices, _sample(inside), _sample(outside)).view(-1)
    lowest, gap = score[inside].min(), score[inside].mean() - score[outside].mean()
    del inside, outside
    likely = true_places(score >= torch.maximum(lowest - SCORE_MARGIN * gap, _high(score, state)))
    likely = likely[~(evaluated[likely] | state.scheme.in_class(codes[likely], index))]
    of_likely = score[likely]
    del score
    _query_by_score(state, likely, of_likely, index, extra)


def _known(state: VoxelState, stride: int) -> Int[Tensor, " N"]:
    """Places that are evaluated and no points of a lattice, of which no coarser one says anything."""
    shape, known = state.codes.shape, []
    for first in range(0, shape[0], SLAB):
        places = true_places(state.evaluated[first : first + SLAB]) + first * shape[1] * shape[2]
        known.append(places[(unravel(places, shape) % stride != 0).any(1)])
    return torch.cat(known)


def _high(score: Float[Tensor, " N"], state: VoxelState) -> Float[Tensor, ""]:
    """About the score above which `MOST_LIKELY` of all voxels lie, from an even sample, besides those that
    are known already."""
    known = int(state.codes.count_nonzero() + state.evaluated.count_nonzero())
    sample = score[:: -(-len(score) // MAX_SAMPLES_OF_SCORES)]
    return sample.kthvalue(max(1, int(len(sample) * (1 - MOST_LIKELY - known / len(score))))).values


def log_odds(logits: Float[Tensor, "L x y z"], scheme: ClassScheme) -> Float[Tensor, "K x y z"]:
    """How much more likely than all else each class is at the points of a lattice."""
    odds = logits.new_empty(scheme.classes, *logits.shape[1:])
    for planes in slabs(logits, 1):
        part = logits[:, planes]
        odds[:, planes] = scheme.margins(part.flatten(1).T).T.view(-1, *part.shape[1:])
    return odds.clamp_(-MAX_LOG_ODDS, MAX_LOG_ODDS)


def _around_voxels(
    lattices: Sequence[Float[Tensor, "_ _ _"]], voxels: Int[Tensor, "N 3"]
) -> Float[Tensor, " N"]:
    """The evidence of the points around voxels for a class; those of the finest lattice do not count
    themselves."""
    *coarser, finest = lattices
    around = interpolate_at(finest, 2, voxels)
    for lattice in coarser:
        around = torch.where((voxels % 2 == 0).all(1), interpolate_at(lattice, 2, voxels // 2), around)
    return around


def _around_planes(
    lattices: Sequence[Float[Tensor, "_ _ _"]], first: int, shape: Sequence[int]
) -> Float[Tensor, "_ Y Z"]:
    """The same for every voxel of a slab of `shape` from the plane `first` on, a multiple of four."""
    *coarser, finest = lattices
    around = upsample_linear(finest[None, first // 2 : first // 2 + SLAB // 2 + 1], 2, shape)[0]
    for lattice in coarser:
        points = subgrid(around, 2)
        planes = lattice[None, first // 4 : first // 4 + SLAB // 4 + 1]
        points[...] = upsample_linear(planes, 2, points.shape)[0]
    return around


def _query_by_score(
    state: VoxelState,
    places: Int[Tensor, " N"],
    score: Float[Tensor, " N"],
    index: int,
    extra: int,
) -> None:
    """Query voxels, the highest score first, until enough of them after the last hit were none.

    Enough are `EXTRA_QUERIES_FRACTION` times as many as up to the last hit, and `extra` more.
    """
    queried, enough = 0, extra
    while queried < enough and len(places):
        threshold = score.kthvalue(max(1, len(score) - (enough - queried) + 1)).values
        likeliest = score >= threshold
        todo, of_todo = places[likeliest], score[likeliest]
        places, score = places[~likeliest], score[~likeliest]
        state.query(todo)
        queried += len(todo)
        hits = state.scheme.in_class(state.codes.view(-1)[todo], index)
        if hits.any():
            beyond = of_todo < of_todo[hits].min()
            enough = int((1 + EXTRA_QUERIES_FRACTION) * (queried - int(beyond.count_nonzero()))) + extra


def _score(
    image: Float[Tensor, "C X Y Z"],
    lattices: Sequence[Float[Tensor, "_ _ _"]],
    inside: Int[Tensor, " N"],
    outside: Int[Tensor, " M"],
) -> Float[Tensor, "X Y Z"]:
    """The discriminant of voxels of both sides, at every voxel."""
    shape = image.shape[1:]
    sides = [unravel(places, shape) for places in (inside, outside)]
    one, other = (
        torch.cat([_surroundings(image, voxels), _around_voxels(lattices, voxels)[:, None]], 1)
        for voxels in sides
    )
    weights = _discriminant(one, other)
    score = image.new_empty(shape)
    for first in range(0, len(score), SLAB):
        slab = score[first : first + SLAB]
        torch.mul(_around_planes(lattices, first, slab.shape), weights[-1], out=slab)
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
    """Add a convolution to one channel, in two dimensions, with planes in the place of channels: of a lone
    channel that takes a third of the time."""
    half, (length, edge, depth) = kernel.shape[1] // 2, total.shape
    bands, rows = _bands(kernel), max(1, VOXELS_AT_ONCE // (PLANES_AT_ONCE * depth))
    for x, y in product(range(0, length, PLANES_AT_ONCE), range(0, edge, rows)):
        out = total[x : x + PLANES_AT_ONCE, y : y + rows]
        first, above = x - half, max(y - half, 0)
        planes = slice(max(first, 0), min(x + len(out) + half, length))
        part = image[:, planes, above : y + rows + half].flatten(0, 1)
        band = bands[: len(out), :, planes.start - first : planes.stop - first].flatten(1, 2)
        out += functional.conv2d(part[None], band, padding=half)[0, :, y - above :][:, : out.shape[1]]


def _bands(kernel: Float[Tensor, "C E E E"]) -> Float[Tensor, "P C Q E E"]:
    """The kernel once for each of P planes, among the Q planes that these are made of."""
    channels, edge = kernel.shape[:2]
    bands = kernel.new_zeros(PLANES_AT_ONCE, channels, PLANES_AT_ONCE + edge - 1, edge, edge)
    for plane, band in enumerate(bands):
        band[:, plane : plane + edge] = kernel
    return bands


def _sample(places: Int[Tensor, " N"]) -> Int[Tensor, " M"]:
    """At most `MAX_SAMPLES_PER_SIDE` of them, evenly distributed."""
    return places[:: -(-len(places) // MAX_SAMPLES_PER_SIDE)]


def _discriminant(one: Float[Tensor, "N F"], other: Float[Tensor, "M F"]) -> Float[Tensor, " F"]:
    """Weights of the linear discriminant of two sides, which are centered in place."""
    between = one.mean(0) - other.mean(0)
    first, second = (side.sub_(side.mean(0)).T @ side for side in (one, other))
    covariance = (first + second) / (len(one) + len(other))
    covariance.diagonal().add_(RIDGE_FRACTION * covariance.diagonal().mean() + 1e-12)
    return torch.linalg.solve(covariance, between)
