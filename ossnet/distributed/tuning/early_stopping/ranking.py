"""Ranks of trials by several objectives: non-dominated sorting, and crowding within a front (NSGA-II, Deb et
al., 2002).

Letters: M trials, K objectives. Every value is a loss: the smaller the better.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

Losses = Sequence[Sequence[float]]


def nondominated_ranks(losses: Losses) -> Int[np.ndarray, "M"]:
    """The front of each trial: 0 where no other is at least as good in all objectives and better in one, 1
    where only trials of front 0 are, and so on. Equal trials share a front."""
    points = _matrix(losses)
    ranks = np.full(len(points), -1)
    dominates = _dominates(points)
    front = 0
    while np.any(ranks < 0):
        left = ranks < 0
        ranks[left & ~np.any(dominates[left], axis=0)] = front
        front += 1
    return ranks


def crowding_distances(losses: Losses) -> Float[np.ndarray, "M"]:
    """How far apart each trial lies from its neighbors in its own front: over objectives, the sum of the gaps
    between both neighbors, each as a part of the front's range; infinite at the ends of an objective.

    Trials with equal losses get the same distance.
    """
    points, ranks = _matrix(losses), nondominated_ranks(losses)
    distances = np.zeros(len(points))
    for front in range(int(ranks.max(initial=-1)) + 1):
        members = np.flatnonzero(ranks == front)
        unique, inverse = np.unique(points[members], axis=0, return_inverse=True)
        distances[members] = _spread(unique)[inverse.reshape(-1)]
    return distances


def scores(losses: Losses) -> list[float]:
    """How good trials are: the higher the better, the same for the same losses.

    Of a single objective it is its value. Of several it is a place, counted from the worst: by front, and in
    a front the least crowded are the best.
    """
    points = _matrix(losses)
    if points.shape[1] == 1:
        return [-float(loss) for (loss,) in points]
    keys = list(zip(nondominated_ranks(losses), -crowding_distances(losses), strict=True))
    places = {key: place for place, key in enumerate(sorted(set(keys), reverse=True))}
    return [float(places[key]) for key in keys]


def _matrix(losses: Losses) -> Float[np.ndarray, "M K"]:
    return np.asarray(losses, dtype=float).reshape(len(losses), len(losses[0]) if losses else 0)


def _dominates(points: Float[np.ndarray, "M K"]) -> np.ndarray:
    """Whether the trial of a row dominates that of a column."""
    rows, columns = points[:, None], points[None]
    found: np.ndarray = np.all(rows <= columns, axis=2) & np.any(rows < columns, axis=2)
    return found


def _spread(points: Float[np.ndarray, "M K"]) -> Float[np.ndarray, "M"]:
    total = np.zeros(len(points))
    for values in points.T:
        places = np.argsort(values, kind="stable")
        extent = values[places[-1]] - values[places[0]]
        if 0 < extent < np.inf:  # else all are the same in this objective, or one is not known
            gaps = np.full(len(points), np.inf)
            gaps[places[1:-1]] = (values[places[2:]] - values[places[:-2]]) / extent
            total += gaps
    return total
