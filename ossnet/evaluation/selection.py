"""Greedy choice of an ensemble by the Dice of validation cases (Caruana et al., ICML 2004).

Letters: K foreground classes, N voxels of a case.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, median

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ossnet.data import Store
from ossnet.data.labels.scheme import ClassScheme
from ossnet.errors import UserError
from ossnet.evaluation.metrics import dice_iou
from ossnet.inference import Predictor
from ossnet.inference.ensemble import Ensemble, Member
from ossnet.output.duration import format_duration


@dataclass(frozen=True)
class CandidateProbabilities:
    """What every candidate says of one case, at the voxels that matter.

    Those are the voxels of the label's foreground, or that any candidate decides as foreground. At all others
    every mean of them is background, too, so that the Dice of any ensemble is exact without them.
    """

    probabilities: tuple[Float[Tensor, "K N"], ...]
    """Of each candidate, in half precision."""
    label: UInt8[Tensor, " N"]
    """The true codes."""

    @classmethod
    def of(
        cls,
        probabilities: Sequence[Float[Tensor, "K X Y Z"]],
        label: UInt8[Tensor, "X Y Z"],
        scheme: ClassScheme,
    ) -> "CandidateProbabilities":
        """Keep what matters of whole volumes."""
        matter = label > 0
        for each in probabilities:
            matter |= scheme.decide_probabilities(each.float()) > 0
        return cls(tuple(each[:, matter] for each in probabilities), label[matter])

    def dice(self, mean: Float[Tensor, "K N"], scheme: ClassScheme) -> float:
        """Mean Dice of the classes, as these probabilities decide."""
        codes = scheme.decide_probabilities(mean[..., None, None])
        return fmean(each.dice for each in dice_iou(codes, self.label[:, None, None], scheme))


@dataclass(frozen=True)
class Selection:
    """The choice among candidates."""

    weights: dict[int, float]
    """Weight of each chosen candidate by its index; they add up to 1."""
    dice: float
    """Mean Dice of all together."""
    best_dice: float
    """That of the best candidate alone."""


def select(
    cases: Sequence[CandidateProbabilities],
    scheme: ClassScheme,
    *,
    size: int,
    seconds: Sequence[float] | None = None,
    at_most_s: float = math.inf,
) -> Selection | None:
    """Add the candidate that helps most, again and again, and end with the best mean on the way.

    A candidate may be added again: so a good one weighs more than those that complement it, and candidates
    that would only harm are never needed to fill the number.

    Args:
        size: how often a candidate is added; no more than that many networks are chosen.
        seconds: what each candidate takes to predict a case.
        at_most_s: what all that are chosen may take together.

    Returns:
        The choice; None where every candidate alone takes too long.
    """
    takes = seconds or [0.0] * len(cases[0].probabilities)
    sums = [torch.zeros_like(case.probabilities[0], dtype=torch.float32) for case in cases]
    added, reached = list[int](), list[float]()
    for count in range(1, size + 1):
        scores = {
            index: fmean(
                case.dice((total + case.probabilities[index]) / count, scheme)
                for case, total in zip(cases, sums, strict=True)
            )
            for index in range(len(takes))
            if sum(takes[each] for each in {*added, index}) <= at_most_s
        }
        if not scores:
            return None
        best = max(scores, key=lambda index: scores[index])
        for case, total in zip(cases, sums, strict=True):
            total += case.probabilities[best]
        added.append(best)
        reached.append(scores[best])
    end = max(range(size), key=lambda index: reached[index]) + 1
    weights = {index: count / end for index, count in Counter(added[:end]).items()}
    return Selection(weights, reached[end - 1], reached[0])


def select_ensemble(
    checkpoints: Sequence[Path],
    store: Store,
    cases: Sequence[str],
    *,
    size: int,
    until: float = math.inf,
    at_most_s: float = math.inf,
    device: str | None = None,
) -> Ensemble | None:
    """Choose among checkpoints of the store's task by their probabilities on validation cases.

    Each network is read when its turn comes; the volumes of all of one case are in RAM at a time.

    Args:
        cases: ids; as many of them count as there is time for.
        size: networks to choose, at most.
        until: unix time at which the last case has to be done.
        at_most_s: what predicting a case may take, all networks of the ensemble together.
        device: where to predict; by default a GPU if there is one.

    Returns:
        The ensemble; None where there was no time for one case.

    Raises:
        UserError: each network alone takes longer than `at_most_s`.
    """
    load = partial(Predictor.from_checkpoint, device=device)
    gathered, seconds, slowest = list[CandidateProbabilities](), list[list[float]](), 0.0
    for case in cases:
        began = time.time()
        if began + slowest > until:
            break
        found, took = _gather(checkpoints, store, case, load)
        gathered.append(found)
        seconds.append(took)
        slowest = max(slowest, time.time() - began)
    if not gathered:
        return None
    takes = [median(each) for each in zip(*seconds, strict=True)]
    selection = select(gathered, store.task.scheme, size=size, seconds=takes, at_most_s=at_most_s)
    if selection is None:
        raise UserError(
            "ensemble",
            expected=f"a network that decides every voxel of a case within {format_duration(at_most_s)}",
            found=f"{format_duration(min(takes))} at least",
            remedy="allow more seconds a case",
        )
    members = tuple(Member(checkpoints[index], weight) for index, weight in selection.weights.items())
    return Ensemble(members, selection.dice, selection.best_dice, len(gathered))


def _gather(
    checkpoints: Sequence[Path], store: Store, case: str, load: Callable[[Path], Predictor]
) -> tuple[CandidateProbabilities, list[float]]:
    """What all say of a case, and the seconds that each takes to predict it."""
    stored = store.case(case)
    image = torch.from_numpy(stored.image.astype(np.float32))
    probabilities, seconds = [], []
    for each in checkpoints:
        predictor = load(each)
        began = time.perf_counter()
        found = predictor.predict(image, with_probabilities=True).probabilities
        assert found is not None
        probabilities.append(found.half().cpu())
        seconds.append(time.perf_counter() - began)
    label = torch.from_numpy(store.task.codes(stored.label).copy())
    return CandidateProbabilities.of(probabilities, label, store.task.scheme), seconds
