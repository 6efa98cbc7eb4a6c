"""Scoring a network on the cases of a store: whole volumes, on the working grid."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from math import inf
from statistics import fmean

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from ossnet.data import Store, StoredCase, Task
from ossnet.errors import UserError
from ossnet.evaluation.mask_metrics import MaskMetrics, score_mask
from ossnet.evaluation.metrics import OverlapMetrics, dice_iou
from ossnet.inference import InferenceConfig, VolumePrediction, predict_volume
from ossnet.inference.ensemble import AnyPredictor
from ossnet.inference.give_up import give_up
from ossnet.sampling import SamplingConfig
from ossnet.sampling.prefetch import prefetch
from ossnet.sampling.sampler import SampleKey
from ossnet.sampling.volume import Volume


@dataclass(frozen=True)
class CaseScore:
    """The scores of a case."""

    case: str
    """The case's name."""
    overlaps: Mapping[str, OverlapMetrics]
    """Overlap by class (or region), in the task's order."""
    details: Mapping[str, MaskMetrics] = field(default_factory=dict)
    """Further measures by class, where requested; they take far longer."""
    predicted_s: float | None = None
    """Seconds that the prediction took, until its classes were on the CPU; None where not measured."""

    @property
    def dice(self) -> float:
        """Mean Dice of the classes."""
        return fmean(each.dice for each in self.overlaps.values())

    @property
    def iou(self) -> float:
        """Mean IoU of the classes."""
        return fmean(each.iou for each in self.overlaps.values())

    @property
    def hd95_mm(self) -> float:
        """Mean 95th percentile of the surface distances of the classes; needs details."""
        return fmean(each.surfaces.hd95_mm for each in self.details.values())

    @property
    def nsd(self) -> float:
        """Mean normalized surface distance of the classes; needs details."""
        return fmean(each.surfaces.nsd for each in self.details.values())


def score_cases(
    network: nn.Module,
    task: Task,
    cases: Iterable[StoredCase],
    *,
    sampling: SamplingConfig,
    settings: InferenceConfig,
    last_until: float = inf,
    first_until: float = inf,
    now: Callable[[], float] = time.monotonic,
    scored: Callable[[StoredCase, UInt8[np.ndarray, "X Y Z"]], None] | None = None,
) -> list[CaseScore]:
    """Predict and score cases one after the other; the next is read and sent while one is predicted.

    Args:
        cases: iterated in a thread.
        last_until: time of the clock `now`: no case is begun that would end later, but for the first.
        first_until: when the first case is given up; then there is no score.
        scored: called with each case and its predicted codes.
    """
    device = next(network.parameters()).device

    def ready() -> Iterator[tuple[StoredCase, Tensor]]:
        for stored in cases:
            yield stored, Volume.of(stored, SampleKey(0, 0, stored.id)).to(device).image().float()

    scores = list[CaseScore]()
    slowest, began = 0.0, now()
    with closing(prefetch(ready())) as volumes:
        for stored, image in volumes:
            with give_up(network, inf if scores else first_until, now) as given_up:
                start = now()
                prediction = predict_volume(network, image, sampling=sampling, settings=settings)
                prediction = replace(prediction, classes=prediction.classes.cpu())  # waits for the device
                took = now() - start
                scores += [replace(_score(task, stored, prediction)[0], predicted_s=took)]
                if scored is not None:
                    scored(stored, prediction.classes.numpy())
            ended = now()
            slowest, began = max(slowest, ended - began), ended
            if given_up() or ended + slowest > last_until:
                break
    return scores


def score_case(
    predictor: AnyPredictor,
    store: Store,
    case: str,
    *,
    temperature: float | None = None,
    tolerance_mm: float | None = None,
    now: Callable[[], float] = time.monotonic,
) -> tuple[CaseScore, VolumePrediction]:
    """Score one case, and return the prediction too, on the CPU.

    Args:
        temperature: the temperature of the prediction's probabilities; without one there are none.
        tolerance_mm: the tolerance of the normalized surface distance; without one there are no details.
        now: the clock of the prediction, in seconds.
    """
    stored, task = store.case(case), store.task
    image = torch.from_numpy(stored.image.astype(np.float32))
    began = now()
    prediction = predictor.predict(image, with_probabilities=temperature is not None, temperature=temperature)
    prediction = replace(prediction, classes=prediction.classes.cpu())  # waits for the device
    if predictor.components is not None:
        codes = predictor.components.apply(prediction.classes.numpy(), task, stored.spacing)
        prediction = replace(prediction, classes=torch.from_numpy(codes))
    took = now() - began
    score, prediction = _score(task, stored, prediction)
    if tolerance_mm is not None:
        details = score_classes(prediction.classes.numpy(), stored, task, tolerance_mm=tolerance_mm)
        score = replace(score, details=details)
    return replace(score, predicted_s=took), prediction


def _score(
    task: Task, stored: StoredCase, prediction: VolumePrediction
) -> tuple[CaseScore, VolumePrediction]:
    probabilities = None if prediction.probabilities is None else prediction.probabilities.cpu()
    prediction = replace(prediction, classes=prediction.classes.cpu(), probabilities=probabilities)
    label = torch.from_numpy(task.codes(stored.label).copy())
    overlaps = dice_iou(prediction.classes, label, task.scheme)
    return CaseScore(stored.id, dict(zip(task.class_names, overlaps, strict=True))), prediction


def score_classes(
    prediction: UInt8[np.ndarray, "X Y Z"], stored: StoredCase, task: Task, *, tolerance_mm: float
) -> dict[str, MaskMetrics]:
    """All measures but overlap of every class (or region) of predicted codes."""
    label, scheme = task.codes(stored.label), task.scheme
    return {
        name: score_mask(
            scheme.in_class(prediction, index),
            scheme.in_class(label, index),
            stored.spacing,
            tolerance_mm=tolerance_mm,
        )
        for index, name in enumerate(task.class_names)
    }


def split_cases(store: Store, split: str, *, fold: int | None = None) -> tuple[str, ...]:
    """The cases of a split, or of a fold's.

    Raises:
        UserError: there are none.
    """
    cases = store.split(split, fold=fold)
    if not cases:
        expected, remedy = f"cases in the {split} split", "choose another or prepare anew"
        raise UserError(store.root, expected=expected, found="none", remedy=remedy)
    return cases


def check_task(task: Task, store: Store) -> None:
    """Reject a store that was prepared for another task than a checkpoint's.

    Raises:
        UserError: names what differs.
    """
    differing = task.difference(store.task)
    if differing is not None:
        raise UserError(
            store.root,
            expected=f"{differing.name} {differing.own}, with which the checkpoint was trained",
            found=f"{differing.name} {differing.other}",
            remedy="prepare it equally",
        )
