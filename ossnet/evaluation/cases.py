"""Scoring a network on the cases of a store: whole volumes, on the working grid."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from statistics import fmean

import numpy as np
import torch
from jaxtyping import UInt8
from torch import nn

from ossnet.data import Store, StoredCase, Task
from ossnet.data.labels.codes import in_class
from ossnet.errors import UserError
from ossnet.evaluation.mask_metrics import MaskMetrics, score_mask
from ossnet.evaluation.metrics import OverlapMetrics, dice_iou
from ossnet.inference import InferenceConfig, VolumePrediction, predict_volume
from ossnet.sampling import SamplingConfig


@dataclass(frozen=True)
class CaseScore:
    """How well one case was segmented."""

    case: str
    overlaps: Mapping[str, OverlapMetrics]
    """By class (or region), in the task's order."""
    details: Mapping[str, MaskMetrics] = field(default_factory=dict)
    """Likewise, where they were asked for: they take far longer."""

    @property
    def dice(self) -> float:
        """Mean over the classes."""
        return fmean(each.dice for each in self.overlaps.values())

    @property
    def iou(self) -> float:
        """Mean over the classes."""
        return fmean(each.iou for each in self.overlaps.values())


def score_cases(
    network: nn.Module,
    store: Store,
    cases: Iterable[str],
    *,
    sampling: SamplingConfig,
    settings: InferenceConfig,
) -> list[CaseScore]:
    """Predict and score cases of a store, one after the other."""
    return [score_case(network, store, case, sampling=sampling, settings=settings)[0] for case in cases]


def score_case(
    network: nn.Module,
    store: Store,
    case: str,
    *,
    sampling: SamplingConfig,
    settings: InferenceConfig,
    temperature: float | None = None,
) -> tuple[CaseScore, VolumePrediction]:
    """Score of one case, and the prediction it was given for, on the CPU.

    Args:
        temperature: of the prediction's probabilities; without one there are none.
    """
    stored, task = store.case(case), store.task
    image = torch.from_numpy(stored.image.astype(np.float32))
    prediction = predict_volume(
        network,
        image,
        sampling=sampling,
        settings=settings,
        with_probabilities=temperature is not None,
        temperature=temperature or 1.0,
    )
    chances = None if prediction.probabilities is None else prediction.probabilities.cpu()
    prediction = replace(prediction, classes=prediction.classes.cpu(), probabilities=chances)
    label = torch.from_numpy(task.codes(stored.label).copy())
    overlaps = dice_iou(prediction.classes, label, task.classes, overlapping=task.overlapping)
    return CaseScore(case, dict(zip(task.class_names, overlaps, strict=True))), prediction


def score_classes(
    prediction: UInt8[np.ndarray, "X Y Z"], stored: StoredCase, task: Task, *, tolerance_mm: float
) -> dict[str, MaskMetrics]:
    """Details of every class (or region) of predicted codes."""
    label, overlapping = task.codes(stored.label), task.overlapping
    return {
        name: score_mask(
            in_class(prediction, index, overlapping=overlapping),
            in_class(label, index, overlapping=overlapping),
            stored.spacing,
            tolerance_mm=tolerance_mm,
        )
        for index, name in enumerate(task.class_names)
    }


def check_task(task: Task, store: Store) -> None:
    """Refuse a store that was prepared for another task than a checkpoint's.

    Raises:
        UserError: names what differs.
    """
    of_images = ("modalities", "normalization", "spacing", "interpolation", "crop")
    for name in (*of_images, "labels", "target", "regions", "class_names"):
        expected, found = getattr(task, name), getattr(store.task, name)
        if expected != found:
            msg = (
                f"{store.root}: the checkpoint was trained with {name} {expected}, the store has {found}: "
                "prepare it alike"
            )
            raise UserError(msg)
