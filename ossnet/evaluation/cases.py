"""Scoring a network on the cases of a store: whole volumes, on the working grid."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np
import torch
from jaxtyping import UInt8
from torch import nn

from ossnet.data import Store, StoredCase, Task
from ossnet.data.regions import in_class
from ossnet.evaluation.details import Details, judge
from ossnet.evaluation.metrics import Overlap, dice_iou
from ossnet.inference import InferenceConfig, predict_volume
from ossnet.sampling import SamplingConfig


@dataclass(frozen=True)
class CaseScore:
    """How well one case was segmented."""

    case: str
    overlaps: Mapping[str, Overlap]
    """By class (or region), in the task's order."""
    details: Mapping[str, Details] = field(default_factory=dict)
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
    network: nn.Module, store: Store, case: str, *, sampling: SamplingConfig, settings: InferenceConfig
) -> tuple[CaseScore, UInt8[np.ndarray, "X Y Z"]]:
    """Score of one case, and the predicted codes it was given for."""
    stored, task = store.case(case), store.task
    predicted = predict_case(network, stored, sampling=sampling, settings=settings)
    label = torch.from_numpy(task.codes(stored.label).copy())
    overlaps = dice_iou(predicted, label, task.classes, overlapping=task.overlapping)
    return CaseScore(case, dict(zip(task.class_names, overlaps, strict=True))), predicted.numpy()


def judge_classes(
    prediction: UInt8[np.ndarray, "X Y Z"], stored: StoredCase, task: Task, *, tolerance_mm: float
) -> dict[str, Details]:
    """Details of every class (or region) of predicted codes."""
    label, overlapping = task.codes(stored.label), task.overlapping
    return {
        name: judge(
            in_class(prediction, index, overlapping=overlapping),
            in_class(label, index, overlapping=overlapping),
            stored.spacing,
            tolerance_mm=tolerance_mm,
        )
        for index, name in enumerate(task.class_names)
    }


def predict_case(
    network: nn.Module, stored: StoredCase, *, sampling: SamplingConfig, settings: InferenceConfig
) -> torch.Tensor:
    """Codes of a stored case (`ossnet.data.regions`), on the CPU."""
    image = torch.from_numpy(stored.image.astype(np.float32))
    return predict_volume(network, image, sampling=sampling, settings=settings).classes.cpu()
