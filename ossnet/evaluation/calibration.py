"""Whether probabilities mean what they say, and the one number that mends most of it.

Letters: K logits or classes, N voxels, X Y Z voxel axes in nibabel's order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn import functional

from ossnet.data import Store, Task
from ossnet.data.labels.codes import in_class, members
from ossnet.errors import UserError
from ossnet.evaluation.cases import check_task
from ossnet.inference import Predictor, predict_volume
from ossnet.inference.temperature import Calibration

BINS = 15
REACH = 5
"""Voxels around foreground, labeled or predicted, that are judged: farther off every network is right."""
MOST = 2**18
"""Voxels of all cases together that a temperature is fitted on."""
_SOFT = 16.0
"""At this temperature probabilities of float32 still tell large logits apart."""
_RANGE = (0.05, 20.0)


@dataclass(frozen=True)
class ReliabilityBins:
    """The probabilities of a class in equal bins, beside how often it was there; cases add up."""

    voxels: Int[np.ndarray, " bins"]
    probability: Float[np.ndarray, " bins"]
    """Summed over the voxels of a bin."""
    inside: Int[np.ndarray, " bins"]
    """Voxels of a bin that lie in the class."""

    @classmethod
    def of(cls, probability: Float[np.ndarray, " N"], inside: Bool[np.ndarray, " N"]) -> "ReliabilityBins":
        """Of some voxels."""
        places = np.minimum((probability * BINS).astype(int), BINS - 1)
        counts, sums, hits = (np.bincount(places, weights, BINS) for weights in (None, probability, inside))
        return cls(counts, sums, hits.astype(int))

    def __add__(self, other: "ReliabilityBins") -> "ReliabilityBins":
        return ReliabilityBins(
            self.voxels + other.voxels, self.probability + other.probability, self.inside + other.inside
        )

    @property
    def error(self) -> float:
        """The expected calibration error: how far probability and frequency differ in a bin, on average."""
        return float(np.abs(self.probability - self.inside).sum() / max(self.voxels.sum(), 1))


def reliabilities(
    probabilities: Float[Tensor, "K X Y Z"],
    prediction: UInt8[np.ndarray, "X Y Z"],
    label: UInt8[np.ndarray, "X Y Z"],
    task: Task,
) -> dict[str, ReliabilityBins]:
    """Of every class of a case, near its foreground; prediction and label as codes."""
    near = near_foreground(prediction, label)
    return {
        name: ReliabilityBins.of(
            chance.numpy()[near], in_class(label, index, overlapping=task.overlapping)[near]
        )
        for index, (name, chance) in enumerate(zip(task.class_names, probabilities, strict=True))
    }


def near_foreground(*codes: UInt8[np.ndarray, "X Y Z"]) -> Bool[np.ndarray, "X Y Z"]:
    """Within `REACH` voxels along each axis of what is foreground in any of these."""
    from scipy.ndimage import maximum_filter

    either = np.any([each > 0 for each in codes], axis=0).astype(np.uint8)
    return maximum_filter(either, 2 * REACH + 1) > 0


def calibrate(predictor: Predictor, store: Store, *, fold: int | None, checkpoint: Path) -> Predictor:
    """Fit a temperature on the validation cases and keep it beside the weights; the predictor with it.

    Raises:
        UserError: a store of another task, no validation cases, or no foreground in them.
    """
    check_task(predictor.task, store)
    found = fit_temperature(predictor, store, store.split("validation", fold=fold))
    found.save(checkpoint)
    return replace(predictor, temperature=found.temperature)


def fit_temperature(predictor: Predictor, store: Store, cases: Sequence[str]) -> Calibration:
    """The temperature at which the labels of voxels near foreground are likeliest (Guo et al. 2017), and that
    of each half of the cases, at which the other half is judged.

    Raises:
        UserError: no cases, or no foreground in them.
    """
    drawn = {case: _sample(predictor, store, case, MOST // len(cases)) for case in cases}
    useful = [case for case, (_, codes) in drawn.items() if len(codes)]
    if not useful:
        msg = f"{store.root}: expected foreground in the validation cases, found none: prepare with others"
        raise UserError(msg)
    overlapping = predictor.task.overlapping
    whole = _Fit.of([drawn[case] for case in useful], overlapping=overlapping)
    halves = [useful[::2], useful[1::2] or useful]
    first, second = (_Fit.of([drawn[case] for case in half], overlapping=overlapping) for half in halves)
    return Calibration(
        temperature=whole.temperature,
        split="validation",
        cases=len(cases),
        voxels=whole.voxels,
        nll_before=whole.before,
        nll_after=whole.after,
        held_out={case: (first if case in useful[1::2] else second).temperature for case in useful},
        in_sample=len(useful) == 1,
    )


@dataclass(frozen=True)
class _Fit:
    """A temperature, and the negative log likelihood without and with it."""

    temperature: float
    voxels: int
    before: float
    after: float

    @classmethod
    def of(cls, drawn: Sequence[tuple[Tensor, Tensor]], *, overlapping: bool) -> "_Fit":
        """Of the logits and codes of some cases."""
        from scipy.optimize import minimize_scalar

        logits, codes = torch.cat([one for one, _ in drawn]), torch.cat([other for _, other in drawn])

        def cost(log_temperature: float) -> float:
            return likelihood(logits / float(np.exp(log_temperature)), codes, overlapping=overlapping)

        best = minimize_scalar(cost, bounds=np.log(_RANGE), method="bounded")
        return cls(float(np.exp(best.x)), len(codes), cost(0.0), float(best.fun))


def likelihood(logits: Float[Tensor, "N K"], codes: UInt8[Tensor, " N"], *, overlapping: bool) -> float:
    """Mean negative log likelihood of codes, in nats; of regions their sum."""
    if logits.shape[1] > 1 and not overlapping:
        return float(functional.cross_entropy(logits, codes.long()))
    inside = torch.from_numpy(members(logits.shape[1], overlapping=overlapping))[codes.long()]
    each = functional.binary_cross_entropy_with_logits(logits, inside.to(logits), reduction="none")
    return float(each.sum(1).mean())


def _sample(
    predictor: Predictor, store: Store, case: str, most: int
) -> tuple[Float[Tensor, "N K"], UInt8[Tensor, " N"]]:
    """Logits and codes of random voxels near the foreground of one case."""
    stored = store.case(case)
    prediction = predict_volume(
        predictor.network,
        torch.from_numpy(stored.image.astype(np.float32)),
        sampling=predictor.sampling,
        settings=predictor.settings,
        with_probabilities=True,
        temperature=_SOFT,
    )
    assert prediction.probabilities is not None
    label = store.task.codes(stored.label)
    near = np.flatnonzero(near_foreground(prediction.classes.cpu().numpy(), label))
    chosen = np.random.default_rng(0).permutation(near)[:most]
    chances = prediction.probabilities.cpu().flatten(1)[:, chosen].T.double()
    codes = torch.from_numpy(label.reshape(-1)[chosen].copy())
    return _SOFT * _logits(chances, overlapping=store.task.overlapping), codes


def _logits(chances: Float[Tensor, "N K"], *, overlapping: bool) -> Float[Tensor, "N L"]:
    """What probabilities came from; of classes that exclude one another up to what all have in common."""
    if overlapping or chances.shape[1] == 1:
        return chances.logit(1e-9)
    return torch.cat([1 - chances.sum(1, keepdim=True), chances], 1).clamp_min(1e-9).log()


def pooled(cases: Sequence[Mapping[str, ReliabilityBins]]) -> dict[str, ReliabilityBins]:
    """Of all cases together."""
    total = dict(cases[0])
    for each in cases[1:]:
        total = {name: total[name] + found for name, found in each.items()}
    return total
