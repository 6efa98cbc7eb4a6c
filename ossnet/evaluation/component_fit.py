"""Which connected components are too small to be real, fitted on validation cases."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from jaxtyping import Bool, Float

from ossnet.data import Store
from ossnet.errors import UserError
from ossnet.evaluation.cases import check_task
from ossnet.inference import Predictor
from ossnet.inference.components import ComponentFilter, label_components

_CANDIDATES = 32
"""Sizes that are tried for a class."""


@dataclass(frozen=True)
class CaseComponents:
    """The components of one class in the prediction of one case."""

    volumes_ml: Float[np.ndarray, " N"]
    shared_ml: Float[np.ndarray, " N"]
    """What of each lies within the label."""
    label_ml: float

    @classmethod
    def of(
        cls, predicted: Bool[np.ndarray, "X Y Z"], label: Bool[np.ndarray, "X Y Z"], voxel_ml: float
    ) -> "CaseComponents":
        """Those of two masks on one grid."""
        components, voxels = label_components(predicted)
        shared = np.bincount(components[label], minlength=len(voxels))
        return cls(voxels[1:] * voxel_ml, shared[1:] * voxel_ml, float(label.sum()) * voxel_ml)

    def dice(self, smallest_ml: float) -> float:
        """Dice without the components below a size; 1 where prediction and label are both empty."""
        kept = self.volumes_ml >= smallest_ml
        total = float(self.volumes_ml[kept].sum()) + self.label_ml
        return 2 * float(self.shared_ml[kept].sum()) / total if total else 1.0


def fit_components(
    predictor: Predictor, store: Store, *, fold: int | None, checkpoint: Path
) -> ComponentFilter:
    """Fit the smallest component of each class on the validation cases, and store it next to the weights.

    A class for which it does not help the half of the cases that it was not fitted on keeps all of them.

    Raises:
        UserError: a store of another task, or no validation cases.
    """
    check_task(predictor.task, store)
    cases = store.split("validation", fold=fold)
    if not cases:
        expected, remedy = "validation cases", "prepare with others"
        raise UserError(store.root, expected=expected, found="none", remedy=remedy)
    found = [_components(predictor, store, case) for case in cases]
    names = predictor.task.class_names
    fits = [_Fit.of([each[index] for each in found]) for index in range(len(names))]
    result = ComponentFilter(
        smallest_ml={name: fit.smallest_ml for name, fit in zip(names, fits, strict=True)},
        split="validation",
        cases=len(cases),
        dice_before={name: fit.before for name, fit in zip(names, fits, strict=True)},
        dice_after={name: fit.after for name, fit in zip(names, fits, strict=True)},
        dice_held_out={name: fit.held_out for name, fit in zip(names, fits, strict=True)},
    )
    result.save(checkpoint)
    return result


@dataclass(frozen=True)
class _Fit:
    """A size, and the mean Dice without it, with it, and with what the other half of the cases gives."""

    smallest_ml: float
    before: float
    after: float
    held_out: float

    @classmethod
    def of(cls, cases: Sequence[CaseComponents]) -> "_Fit":
        first, second = cases[::2], cases[1::2]
        smallest, before = _best_size(cases), _mean_dice(cases, 0.0)
        halves = [*_scores(second, _best_size(first)), *_scores(first, _best_size(second or first))]
        held_out = fmean(halves)
        if held_out <= before:
            return cls(0.0, before, before, before)
        return cls(smallest, before, _mean_dice(cases, smallest), held_out)


def _best_size(cases: Sequence[CaseComponents]) -> float:
    """The size with the highest mean Dice, between two components' volumes; the smallest of equals."""
    volumes = np.unique(np.concatenate([each.volumes_ml for each in cases]))
    between = np.sqrt(volumes[1:] * volumes[:-1])
    if len(between) > _CANDIDATES:
        between = np.unique(np.quantile(between, np.linspace(0, 1, _CANDIDATES), method="nearest"))
    candidates = [0.0, *between.tolist(), *(volumes[-1:] * 2).tolist()]
    return max(candidates, key=lambda size: _mean_dice(cases, size))


def _mean_dice(cases: Sequence[CaseComponents], size: float) -> float:
    return fmean(_scores(cases, size))


def _scores(cases: Sequence[CaseComponents], size: float) -> list[float]:
    return [each.dice(size) for each in cases]


def _components(predictor: Predictor, store: Store, case: str) -> list[CaseComponents]:
    """Those of every class of one case, without any rule."""
    stored, scheme = store.case(case), store.task.scheme
    image = torch.from_numpy(stored.image.astype(np.float32))
    codes, label = predictor.predict(image).classes.cpu().numpy(), store.task.codes(stored.label)
    voxel_ml = prod(stored.spacing) / 1000
    return [
        CaseComponents.of(scheme.in_class(codes, index), scheme.in_class(label, index), voxel_ml)
        for index in range(scheme.classes)
    ]
