"""What a random sample says of the voxels that were never asked.

Letters: N points, V voxels.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ossnet.inference.methods.lattice import VoxelState

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Audit:
    """Voxels drawn from those that were filled in, and asked after all."""

    skipped: int
    """Voxels that were filled in before the audit."""
    drawn: int
    """How many of them were asked."""
    wrong: int
    """How many of these the network decides otherwise."""

    @property
    def bound(self) -> float:
        """With 95 % confidence the share of wrong ones among the skipped is below (Clopper and Pearson)."""
        from scipy.stats import binomtest

        if self.drawn == self.skipped:
            return self.wrong / self.skipped if self.skipped else 0.0
        test = binomtest(self.wrong, self.drawn, alternative="less")
        return float(test.proportion_ci(CONFIDENCE, method="exact").high)


def audit(decided: VoxelState, points: int, seed: int = 0) -> Audit:
    """Ask so many of the voxels that are not known, drawn without replacement; afterwards they are."""
    skipped = decided.known.numel() - int(decided.known.count_nonzero())
    drawn = _draw(decided.known.flatten(), skipped, min(points, skipped), np.random.default_rng(seed))
    todo = torch.zeros_like(decided.known)
    todo.view(-1)[drawn] = True
    filled = decided.codes.view(-1)[drawn].clone()
    decided.query(todo)
    wrong = int((decided.codes.view(-1)[drawn] != filled).count_nonzero())
    return Audit(skipped, len(drawn), wrong)


def _draw(
    known: Bool[Tensor, " V"], skipped: int, points: int, random: np.random.Generator
) -> Int[Tensor, " N"]:
    """Of voxels in random order the first that are not known: no list of all of them is made."""
    voxels = known.numel()

    def unknown(tried: int) -> Int[Tensor, " N"]:
        places = torch.from_numpy(random.choice(voxels, tried, replace=False)).to(known.device)
        return places[~known[places]][:points]

    drawn = unknown(min(voxels, 2 * points * -(-voxels // max(skipped, 1))))
    return drawn if len(drawn) == points else unknown(voxels)
