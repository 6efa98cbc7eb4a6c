"""Voxels that look like foreground already found: a cheap look at each one where the network looked at few.

Letters: C channels, F features, K classes, L logits, N points, X Y Z voxel axes in nibabel's order; x y z
points of a lattice.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from ossnet.data.labels.codes import in_class
from ossnet.inference.methods.lattice import VoxelState, subgrid, unravel, upsample_linear
from ossnet.inference.query.activation import margins

EDGE = 3
"""A voxel is judged by the cube of this edge around it."""
MOST = 2**13
"""Voxels of each side that a look is learnt from."""
MOST_ODDS = 10.0
"""Beyond these the log odds of a class say no more."""
RIDGE = 1e-2
"""Keeps the covariance invertible, as a share of its mean variance."""
PLANES = 4
"""Planes that are looked at together."""
MARGIN = 0.2
"""How far below the least likely known voxel to look, in distances between the means of both sides."""
AGAIN = 0.5
"""Voxels to ask in vain after a find, as a share of those it took to find it, and some more."""
LEAST = 2**13
"""How many more, at least."""


def query_similar(
    decided: VoxelState,
    image: Float[Tensor, "C X Y Z"],
    lattices: Sequence[Float[Tensor, "L _ _ _"]],
    *,
    share: float,
) -> None:
    """Ask every voxel that looks about as much like a class as some voxel that is known to be in it.

    For each class the linear discriminant of known voxels inside and outside is learnt from their 3^3
    surroundings and from what lattices around them say, and applied everywhere, which costs one
    convolution. What was filled as of the class already need not be asked. The likeliest come first, until
    half as many were asked in vain as it took to the last find, and some more. Repeated until it shows
    nothing new: each piece found may lower the mark for the next.

    Args:
        lattices: logits at the points of the last one or two, the finest, of every second voxel, last.
        share: how many more, of the voxels asked before; at least `LEAST`.
    """
    odds = [_odds(logits, overlapping=decided.overlapping) for logits in lattices]
    before = None
    while before is None or not torch.equal(decided.codes, before):
        before, effort = decided.codes.clone(), max(LEAST, int(share * decided.volume.asked))
        for index, of_class in enumerate(zip(*odds, strict=True)):
            _ask_class(decided, image, index, of_class, effort)
        decided.trace_boundary()


def _ask_class(
    decided: VoxelState,
    image: Float[Tensor, "C X Y Z"],
    index: int,
    lattices: Sequence[Float[Tensor, "_ _ _"]],
    effort: int,
) -> None:
    inside = in_class(decided.codes, index, overlapping=decided.overlapping)
    found, rest = decided.known & inside, decided.known & ~inside
    for known in (found, rest):
        subgrid(known, 2 ** len(lattices))[...] = False  # of these nothing coarser tells
    if not found.any() or not rest.any():
        return
    score = _score(image, _around(lattices, decided.codes.shape), found, rest)
    gap = score[found].mean() - score[rest].mean()
    alike = score >= score[found].min() - MARGIN * gap
    del found, rest
    alike &= ~inside
    alike &= ~decided.known
    _seek(decided, alike, score, index, effort)


def _odds(logits: Float[Tensor, "L *points"], *, overlapping: bool) -> Float[Tensor, "K *points"]:
    margin = margins(logits.flatten(1).T, overlapping=overlapping).clamp(-MOST_ODDS, MOST_ODDS)
    return margin.T.reshape(-1, *logits.shape[1:])


def _around(lattices: Sequence[Float[Tensor, "_ _ _"]], shape: Sequence[int]) -> Float[Tensor, "X Y Z"]:
    """What points around each voxel say of a class; those of the finest lattice do not count themselves."""
    *coarser, finest = lattices
    around = upsample_linear(finest[None], 2, shape)[0]
    for lattice in coarser:
        points = subgrid(around, 2)
        points[...] = upsample_linear(lattice[None], 2, points.shape)[0]
    return around


def _seek(
    decided: VoxelState, alike: Bool[Tensor, "X Y Z"], score: Float[Tensor, "X Y Z"], index: int, effort: int
) -> None:
    """Ask these voxels, the likeliest first, until after the last in the class came `AGAIN` times as many as
    up to it, and `effort` more."""
    asked, enough = 0, effort
    while asked < enough and alike.any():
        scores = score[alike]
        mark = scores.kthvalue(max(1, len(scores) - (enough - asked) + 1)).values
        todo = alike & (score >= mark)
        alike &= ~todo
        decided.query(todo)
        asked += int(todo.count_nonzero())
        hits = todo & in_class(decided.codes, index, overlapping=decided.overlapping)
        if hits.any():
            beyond = todo & (score < score[hits].min())
            enough = int((1 + AGAIN) * (asked - int(beyond.count_nonzero()))) + effort


def _score(
    image: Float[Tensor, "C X Y Z"],
    around: Float[Tensor, "X Y Z"],
    found: Bool[Tensor, "X Y Z"],
    rest: Bool[Tensor, "X Y Z"],
) -> Float[Tensor, "X Y Z"]:
    """The discriminant of both sides at every voxel, in the place of what is around."""
    one, other = (
        torch.cat([_surroundings(image, some), around[some.unbind(1)][:, None]], 1)
        for some in (_some(found), _some(rest))
    )
    weights = _discriminant(one, other)
    score = around.mul_(weights[-1])
    _convolve(image, weights[:-1].reshape(len(image), EDGE, EDGE, EDGE), score)
    return score


def _surroundings(image: Float[Tensor, "C X Y Z"], voxels: Int[Tensor, "N 3"]) -> Float[Tensor, "N F"]:
    """Cubes of `EDGE` around voxels, zero beyond the image: no padded copy of it is made."""
    steps = torch.arange(EDGE, device=voxels.device) - EDGE // 2
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
    for start in range(0, length, PLANES):
        planes = image[:, start : start + PLANES].movedim(1, 0)
        for place, part in enumerate(functional.conv2d(planes, matrices, padding=edge // 2).unbind(1)):
            first = start + edge // 2 - place
            inside = slice(max(first, 0), min(first + len(part), length))
            total[inside] += part[inside.start - first : inside.stop - first]


def _some(mask: Bool[Tensor, "X Y Z"]) -> Int[Tensor, "N 3"]:
    """At most `MOST` places of a mask, evenly from all over it."""
    places = mask.flatten().nonzero()[:, 0]
    return unravel(places[:: -(-len(places) // MOST)], mask.shape)


def _discriminant(one: Float[Tensor, "N F"], other: Float[Tensor, "M F"]) -> Float[Tensor, " F"]:
    """Of two sides, which are centered in place."""
    between = one.mean(0) - other.mean(0)
    first, second = (side.sub_(side.mean(0)).T @ side for side in (one, other))
    covariance = (first + second) / (len(one) + len(other))
    covariance.diagonal().add_(RIDGE * covariance.diagonal().mean() + 1e-12)
    return torch.linalg.solve(covariance, between)
