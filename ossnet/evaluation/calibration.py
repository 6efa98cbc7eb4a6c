"""Whether probabilities come true as often as they say, and the temperature that corrects most of it.

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
from ossnet.data.labels.scheme import ClassScheme
from ossnet.errors import UserError
from ossnet.evaluation.cases import check_task
from ossnet.inference import Predictor, predict_volume
from ossnet.inference.temperature import Calibration

BINS = 15
NEAR_VOXELS = 5
"""Voxels around foreground, labeled or predicted, that are evaluated: farther off every network is right."""
MAX_FIT_VOXELS = 2**18
"""Voxels of all cases together, at most, that a temperature is fitted on."""
_SOFT_TEMPERATURE = 16.0
"""A temperature at which probabilities of float32 still distinguish large logits."""
_TEMPERATURES = (0.05, 20.0)


@dataclass(frozen=True)
class ReliabilityBins:
    """The probabilities of a class in equal bins, and how often it was present; cases add up."""

    voxels: Int[np.ndarray, " bins"]
    """Voxels of each bin."""
    probability: Float[np.ndarray, " bins"]
    """Sum of their probabilities."""
    inside: Int[np.ndarray, " bins"]
    """Voxels of a bin that lie in the class."""

    @classmethod
    def of(cls, probability: Float[np.ndarray, " N"], inside: Bool[np.ndarray, " N"]) -> "ReliabilityBins":
        """The bins of some voxels."""
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
    """The bins of every class of a case, near its foreground; prediction and label are codes."""
    near, scheme = near_foreground(prediction, label), task.scheme
    return {
        name: ReliabilityBins.of(probability.numpy()[near], scheme.in_class(label, index)[near])
        for index, (name, probability) in enumerate(zip(scheme.names, probabilities, strict=True))
    }


def near_foreground(*codes: UInt8[np.ndarray, "X Y Z"]) -> Bool[np.ndarray, "X Y Z"]:
    """Voxels within `NEAR_VOXELS` along each axis of what is foreground in any of these."""
    from scipy.ndimage import maximum_filter

    either = np.any([each > 0 for each in codes], axis=0).astype(np.uint8)
    return maximum_filter(either, 2 * NEAR_VOXELS + 1) > 0


def calibrate(predictor: Predictor, store: Store, *, fold: int | None, checkpoint: Path) -> Predictor:
    """Fit a temperature on the validation cases and store it next to the weights.

    Returns:
        The predictor with that temperature.

    Raises:
        UserError: a store of another task, no validation cases, or no foreground in them.
    """
    check_task(predictor.task, store)
    calibration = fit_temperature(predictor, store, store.split("validation", fold=fold))
    calibration.save(checkpoint)
    return replace(predictor, temperature=calibration.temperature)


def fit_temperature(predictor: Predictor, store: Store, cases: Sequence[str]) -> Calibration:
    """Fit the temperature at which the labels of voxels near foreground are likeliest (Guo et al. 2017).

    Each half of the cases also gets a temperature, at which the other half is to be evaluated.

    Raises:
        UserError: no cases, or no foreground in them.
    """
    drawn = {case: _sample(predictor, store, case, MAX_FIT_VOXELS // len(cases)) for case in cases}
    useful = [case for case, (_, codes) in drawn.items() if len(codes)]
    if not useful:
        expected, remedy = "foreground in the validation cases", "prepare with others"
        raise UserError(store.root, expected=expected, found="none", remedy=remedy)
    scheme = predictor.task.scheme
    whole = _Fit.of([drawn[case] for case in useful], scheme)
    halves = [useful[::2], useful[1::2] or useful]
    first, second = (_Fit.of([drawn[case] for case in half], scheme) for half in halves)
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
    def of(cls, drawn: Sequence[tuple[Tensor, Tensor]], scheme: ClassScheme) -> "_Fit":
        """Fit the logits of some cases to their codes."""
        from scipy.optimize import minimize_scalar

        logits, codes = torch.cat([one for one, _ in drawn]), torch.cat([other for _, other in drawn])

        def cost(log_temperature: float) -> float:
            return negative_log_likelihood(logits / float(np.exp(log_temperature)), codes, scheme)

        best = minimize_scalar(cost, bounds=np.log(_TEMPERATURES), method="bounded")
        return cls(float(np.exp(best.x)), len(codes), cost(0.0), float(best.fun))


def negative_log_likelihood(
    logits: Float[Tensor, "N K"], codes: UInt8[Tensor, " N"], scheme: ClassScheme
) -> float:
    """Mean negative log likelihood of codes, in nats, summed over regions."""
    if not scheme.independent:
        return float(functional.cross_entropy(logits, codes.long()))
    inside = torch.from_numpy(scheme.membership)[codes.long()]
    each = functional.binary_cross_entropy_with_logits(logits, inside.to(logits), reduction="none")
    return float(each.sum(1).mean())


def _sample(
    predictor: Predictor, store: Store, case: str, limit: int
) -> tuple[Float[Tensor, "N K"], UInt8[Tensor, " N"]]:
    """Logits and codes of random voxels near the foreground of one case."""
    stored = store.case(case)
    prediction = predict_volume(
        predictor.network,
        torch.from_numpy(stored.image.astype(np.float32)),
        sampling=predictor.sampling,
        settings=predictor.settings,
        with_probabilities=True,
        temperature=_SOFT_TEMPERATURE,
    )
    assert prediction.probabilities is not None
    label = store.task.codes(stored.label)
    near = np.flatnonzero(near_foreground(prediction.classes.cpu().numpy(), label))
    chosen = np.random.default_rng(0).permutation(near)[:limit]
    probabilities = prediction.probabilities.cpu().flatten(1)[:, chosen].T.double()
    codes = torch.from_numpy(label.reshape(-1)[chosen].copy())
    return _SOFT_TEMPERATURE * _logits(probabilities, store.task.scheme), codes


def _logits(probabilities: Float[Tensor, "N K"], scheme: ClassScheme) -> Float[Tensor, "N L"]:
    """The logits that probabilities came from; of exclusive classes up to a constant that all share."""
    if scheme.independent:
        return probabilities.logit(1e-9)
    background = 1 - probabilities.sum(1, keepdim=True)
    return torch.cat([background, probabilities], 1).clamp_min(1e-9).log()


def aggregate(cases: Sequence[Mapping[str, ReliabilityBins]]) -> dict[str, ReliabilityBins]:
    """The bins of all cases together, by class."""
    total = dict(cases[0])
    for each in cases[1:]:
        total = {name: total[name] + bins for name, bins in each.items()}
    return total
