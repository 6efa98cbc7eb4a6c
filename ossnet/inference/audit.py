"""What a random sample says of the voxels that were never asked.

Letters: N points.
"""

from dataclasses import dataclass

import torch

from ossnet.inference.lattice import Decided

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
        from scipy.stats import beta

        if self.drawn == self.skipped:
            return self.wrong / self.skipped if self.skipped else 0.0
        return float(beta.ppf(CONFIDENCE, self.wrong + 1, self.drawn - self.wrong))


def audit(decided: Decided, points: int, seed: int = 0) -> Audit:
    """Ask so many of the voxels that are not known, drawn without replacement; afterwards they are."""
    device = decided.codes.device
    skipped = (~decided.known).flatten().nonzero()[:, 0]
    random = torch.Generator(device).manual_seed(seed)
    drawn = skipped[torch.randperm(len(skipped), generator=random, device=device)[:points]]
    todo = torch.zeros_like(decided.known)
    todo.view(-1)[drawn] = True
    filled = decided.codes.view(-1)[drawn].clone()
    decided.ask(todo)
    wrong = int((decided.codes.view(-1)[drawn] != filled).sum())
    return Audit(len(skipped), len(drawn), wrong)
