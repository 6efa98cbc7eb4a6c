"""One run of the comparison: a network is trained for its time, and its last weights are evaluated."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ossnet.benchmarks.paper.results import CaseRow, RunKey, RunRow
from ossnet.data import Store
from ossnet.errors import StoreError, UserError
from ossnet.evaluation.cases import CaseScore, score_case
from ossnet.evaluation.run import TOLERANCE_MM
from ossnet.inference import Predictor
from ossnet.inference.config import Axis
from ossnet.metric_names import FINAL
from ossnet.models import network_from_config
from ossnet.output.duration import counted
from ossnet.output.progress import progress
from ossnet.planning.configure.fingerprint import Fingerprint
from ossnet.planning.configure.planner import Planner
from ossnet.planning.configure.recipe import Device
from ossnet.planning.estimator import PeakEstimator
from ossnet.planning.study_time import most_epochs
from ossnet.training.checkpoint_files import CHECKPOINT
from ossnet.training_run import run_training

Clock = Callable[[], float]


@dataclass(frozen=True)
class Runner:
    """What all runs have in common."""

    store: Store
    time_s: float
    """Seconds of training, of `now`."""
    now: Clock
    """The clock of training and of predicting."""
    folder: Path
    """Where each run keeps its checkpoint, in a folder of its own."""
    flips: tuple[Axis, ...] = ()
    """Axes along which cases are flipped too, predictions being averaged."""

    def run(self, key: RunKey, training: Sequence[str], validation: Sequence[str]) -> RunRow:
        """Train on some cases with the product's recipe, and evaluate on others.

        Raises:
            StoreError: a case cannot be read.
        """
        cases = without_others(self.store, training)
        planner = Planner(
            Fingerprint.of(cases), key.network, given={"training.seed": key.seed}, device=Device.here()
        )
        resolved, estimator = planner.resolve(), PeakEstimator()
        changes = {
            "training.max_time_s": self.time_s,
            "training.epochs": most_epochs(resolved.config, cases, self.time_s),
        }
        config = resolved.config.replace(changes).resolve_for(cases)
        with torch.device("meta"):
            parameters = sum(each.numel() for each in network_from_config(config.model).parameters())
        row = RunRow(
            key=key,
            options=resolved.options(),
            parameters=parameters,
            predicted_gib=estimator.gib(config),  # loads what the network needs, before its time begins
            inference_gib=estimator.inference_gib(config),
        )
        began = self.now()
        try:
            with progress(f"training {key}") as shown:
                keeper = _Keeper(
                    self.folder / key.folder,
                    lambda steps: shown.set((self.now() - began) / self.time_s, counted(steps, "step")),
                )
                run_training(
                    config,
                    cases,
                    reporter=keeper,
                    predicted_gib=row.predicted_gib,
                    now=self.now,
                    measured=keeper.measured,
                )
        except StoreError:
            raise
        except (UserError, FloatingPointError) as error:
            return replace(row, error=str(error))
        trained = replace(
            row, training_s=self.now() - began, training_gib=keeper.peak_gib, steps=keeper.steps
        )
        return self.evaluate(trained, validation)

    def checkpoint(self, key: RunKey) -> Path:
        """Where a run's last weights are."""
        return self.folder / key.folder / CHECKPOINT

    def evaluate(self, row: RunRow, validation: Sequence[str]) -> RunRow:
        """A run that was trained, with the scores of these cases.

        Raises:
            StoreError: a case cannot be read.
        """
        predictor = Predictor.from_checkpoint(self.checkpoint(row.key), flips=self.flips)
        rows = []
        with progress(f"evaluating {row.key}", total=len(validation)) as shown:
            for case in validation:
                score, _ = score_case(predictor, self.store, case, tolerance_mm=TOLERANCE_MM, now=self.now)
                rows.append(_row(case, score))
                shown()
        return replace(row, cases=tuple(rows))


def _row(case: str, score: CaseScore) -> CaseRow:
    return CaseRow(
        case=case,
        dice=score.dice,
        iou=score.iou,
        hd95_mm=score.hd95_mm,
        nsd=score.nsd,
        seconds=score.predicted_s or 0.0,
        class_dice={name: overlap.dice for name, overlap in score.overlaps.items()},
    )


def without_others(store: Store, training: Sequence[str]) -> Store:
    """The store with these cases to train on, and no other that can be read; nothing is copied."""
    others = tuple(sorted(store.manifest.cases.keys() - set(training)))
    splits = {"training": tuple(training), "validation": (), "test": others}
    return Store(store.root, replace(store.manifest, splits=splits, folds=()))


class _Keeper:
    """Keeps what a run reports: its last checkpoint, its steps and its measured peak."""

    def __init__(self, folder: Path, show: Callable[[int], None]) -> None:
        self.folder, self.steps = folder, 0
        self._show = show
        self.peak_gib: float | None = None

    def measured(self, peak_gib: float) -> None:
        """Take the measured peak of a step."""
        self.peak_gib = peak_gib

    def step(self, metrics: dict[str, float], step: int) -> None:
        """Count a step, and show it."""
        self.steps = step
        self._show(step)

    def epoch(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        """Keep the checkpoint of the run's end."""
        if metrics[FINAL] and checkpoint is not None:
            shutil.copytree(checkpoint, self.folder / CHECKPOINT)
