"""A study of a space in a file, as tests of studies and of searches make it, and how they read what came of
it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from mlflow import MlflowClient
from mlflow.entities import Run

from ossnet.config import Config
from ossnet.data import Store
from ossnet.distributed.tracking.client import TrackingConfig
from ossnet.distributed.tuning.search_space import Space
from ossnet.distributed.tuning.study import StudySpec

NAME = "mine"


def make_spec(
    folder: Path, body: str, base: Config, store: Store, *, trials: int | None = 3, **options: Any
) -> StudySpec:
    """Write a space to a folder; the study lies in `folder/study` and its store of runs in the folder."""
    space = folder / f"{NAME}.py"
    space.write_text(body)
    spec = StudySpec(
        name=NAME,
        space=Space(space),
        base=base,
        store=store,
        output=folder / "study",
        tracking=TrackingConfig.at(folder, NAME),
        trials=trials,
    )
    return replace(spec, **options)


def read_trials(output: Path) -> list[optuna.trial.FrozenTrial]:
    """The trials in a study's folder, as a stranger reads them from its file."""
    study = optuna.load_study(study_name=NAME, storage=f"sqlite:///{output / 'study.db'}")
    assert study.directions[0] == optuna.study.StudyDirection.MAXIMIZE
    return study.trials


def open_runs(folder: Path) -> MlflowClient:
    """A client of the store of runs in a folder."""
    return MlflowClient(TrackingConfig.at(folder, NAME).uri)


def read_runs(folder: Path) -> tuple[Run, list[Run]]:
    """The study's run and its trials', in the order of their names."""
    client = open_runs(folder)
    experiment = client.get_experiment_by_name(NAME)
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    (parent,) = (run for run in found if "mlflow.parentRunId" not in run.data.tags)
    children = [run for run in found if run is not parent]
    assert all(run.data.tags["mlflow.parentRunId"] == parent.info.run_id for run in children)
    return parent, sorted(children, key=lambda run: run.info.run_name)
