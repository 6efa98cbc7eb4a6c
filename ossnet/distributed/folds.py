"""Training a network on every fold of a store in turn, as one study of runs."""

import json
import logging
import time
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from ossnet.config import Config
from ossnet.data import Store
from ossnet.distributed.cluster.resources import Workers
from ossnet.distributed.doctor import connect_checked
from ossnet.distributed.launch import train_in
from ossnet.distributed.tracking.actor import mlflow_run, start_tracker, version_tags
from ossnet.distributed.tracking.client import RunSpec, TrackingConfig
from ossnet.distributed.tracking.description import NOTE, describe, store_name
from ossnet.errors import UserError
from ossnet.metric_names import MEMORY, STORE, TITLE, VAL_DICE
from ossnet.output.atomic_write import atomic_write
from ossnet.output.claim import claimed_output
from ossnet.output.remote.copies import keep
from ossnet.output.waiting import PATIENCE, Patience

if TYPE_CHECKING:
    from ossnet.planning.configure.planner import Resolved

logger = logging.getLogger(__name__)

FILE = "folds.json"
"""The file in the study's folder that says which folds have ended."""


@dataclass(frozen=True)
class FoldsResult:
    """What the networks of all folds came to, each on the cases that it was not trained on."""

    folder: Path
    """The study's, with a folder for each fold."""
    run: str
    """Id of the study's run in the tracker."""
    metrics: tuple[dict[str, float], ...]
    """Of each fold that has ended, in their order."""

    @property
    def checkpoints(self) -> tuple[Path, ...]:
        """Their checkpoints."""
        return tuple(fold_folder(self.folder, fold) / "checkpoint" for fold in range(len(self.metrics)))

    @property
    def dice(self) -> float:
        """The mean of the folds' Dice."""
        return fmean(each[VAL_DICE] for each in self.metrics)

    def summary(self) -> dict[str, object]:
        """Human-readable rows."""
        dice = [each[VAL_DICE] for each in self.metrics]
        peak = max(each.get(MEMORY, 0.0) for each in self.metrics)
        folds = {f"fold {fold}": f"Dice {value:.4f}" for fold, value in enumerate(dice)}
        overall = f"{self.dice:.4f} ({min(dice):.4f} to {max(dice):.4f})"
        return {"Dice": overall, **folds, "peak memory": f"{peak:.3f} GiB", "files": self.folder}

    def to_dict(self) -> dict[str, Any]:
        """The result as `--json` prints it."""
        return {"dice": self.dice, "folds": list(self.metrics), "checkpoints": list(self.checkpoints)}


def fold_folder(output: Path, fold: int) -> Path:
    """The folder of a fold's run."""
    return output / f"fold_{fold}"


def launch_folds(
    config: Config,
    store: Store,
    *,
    output: Path,
    workers: Workers,
    tracking: TrackingConfig,
    resume: bool,
    resolved: "Resolved | None" = None,
    deadline: float | None = None,
    patience: Patience = PATIENCE,
) -> FoldsResult:
    """Train a network on each fold of a store, one after the other; each has an equal part of the time.

    Args:
        deadline: unix time by which all has to have ended.

    Raises:
        UserError: the store has no folds, or as `launch_training`.
    """
    folds = len(store.manifest.folds)
    if not folds:
        raise UserError(store.root, expected="folds", found="none", remedy="prepare with --folds 5")
    wait_s = patience.for_output_s
    with (
        claimed_output(output, "train", sources=store.folders, wait_at_most_s=wait_s),
        connect_checked(output),
    ):
        result = _begin(output, resume=resume)
        documents = {"config.json": config.to_json()}
        with (
            start_tracker(tracking, output) as tracker,
            mlflow_run(tracker, _study_run(result, config, store), documents) as run,
        ):
            for fold in range(len(result.metrics), folds):
                logger.info(f"fold {fold} of {folds}, counted from 0")
                limited, until = _part_of_time(config, deadline, folds - fold)
                trained = train_in(
                    limited.replace({"training.fold": fold}),
                    store,
                    fold_folder(output, fold),
                    workers,
                    tracking,
                    resolved if fold == 0 else None,
                    resume=(fold_folder(output, fold) / "config.json").exists(),
                    deadline=until,
                    patience=patience,
                    study=result.run,
                )
                result = replace(result, metrics=(*result.metrics, trained.metrics))
                _save(result)
            run.tags = {f"mean {VAL_DICE}": f"{result.dice:.4f}"}
    return result


def _begin(output: Path, *, resume: bool) -> FoldsResult:
    """A new study, or what is there of one."""
    path = output / FILE
    if resume:
        if not path.is_file():
            raise UserError(
                output, expected="folds to resume", found=f"no {FILE}", remedy="leave out --resume"
            )
        kept = json.loads(path.read_text())
        return FoldsResult(output, kept["run"], tuple(kept["metrics"]))
    if path.exists() or (output / "config.json").exists():
        raise UserError(
            output,
            expected="a new folder",
            found=f"folds ({FILE})" if path.exists() else "a run (config.json)",
            remedy="continue it by --resume, or give another --output",
        )
    result = FoldsResult(output, uuid.uuid4().hex, ())
    _save(result)
    return result


def _save(result: FoldsResult) -> None:
    """Keep which folds have ended, and with what."""
    path = result.folder / FILE
    atomic_write(path, json.dumps({"run": result.run, "metrics": result.metrics}, indent=2))
    keep(path)


def _study_run(result: FoldsResult, config: Config, store: Store) -> RunSpec:
    title = f"{config.model.name}, {len(store.manifest.folds)} folds"
    tags = version_tags() | {"network": config.model.name, TITLE: title, STORE: str(store.root)}
    tags[NOTE] = describe(title, store)
    return RunSpec(id=result.run, name=f"{title}, {store_name(store)}", params=config.flatten(), tags=tags)


def _part_of_time(config: Config, deadline: float | None, folds: int) -> tuple[Config, float | None]:
    """The configuration of one of so many folds, and when it has to have ended."""
    if deadline is None:
        return config, None
    part_s = (deadline - time.time()) / folds
    return config.replace({"training.max_time_s": max(part_s, 1.0)}), time.time() + part_s
