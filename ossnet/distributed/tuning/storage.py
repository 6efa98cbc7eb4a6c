"""A study on disk: Optuna's file, from which everything else can be rebuilt, and the trials' checkpoints."""

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import StorageInternalError
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from ossnet import schemas
from ossnet.distributed._optuna import metric_names, reopen_trial, set_metric_names
from ossnet.distributed._sqlite import LOCKED_S, check_database, creation_lock, sqlite_url
from ossnet.distributed.tracking.client import TRIAL
from ossnet.distributed.tracking.names import legal_experiment
from ossnet.distributed.tuning.config import OTHER_VIOLATIONS, VIOLATION, OptimizationConfig
from ossnet.distributed.tuning.space_file import same_code
from ossnet.distributed.tuning.trial import TrialEnd
from ossnet.errors import UserError
from ossnet.metric_names import MEMORY, PREDICTED
from ossnet.output.atomic_write import disk_fault
from ossnet.output.remote.copies import names_in
from ossnet.planning.study_time import TrialTime
from ossnet.training.checkpoint import is_complete, is_of, load_state
from ossnet.training.checkpoint_files import checkpoints_in

DATABASE = "study.db"
TRIALS_FOLDER = "trials"
"""Ray Tune's folder in that of a study."""
WORKERS_FOLDER = "workers"
"""The folder of Ray Train's runs in that of a study whose trials have several workers."""
SCHEMA = "schema"
"""Attribute of a study: `schemas.STUDY`, the version of all names and values in it."""
SETTINGS = "settings"
"""Attribute of a study: what may not change when it is resumed."""
SPACE = "space"
"""Setting: the text of the space file."""
HELPERS = "space helpers"
"""Setting: the texts of the files beside it that it imports, by their names."""
TRIAL_TIME = "trial time"
"""Attribute of a study: the time of each of its trials, where time is planned."""
METRICS = "metrics"
"""Attribute of a trial: the last known value of each metric; over several seeds, their mean."""
SEEDS = "seeds"
"""Attribute of a trial: the metrics of each seed that finished."""
END = "end"
"""Attribute of a trial that has ended: its `TrialEnd`."""
NETWORK_NAME = "network"
CONFIGURATION = "configuration"
"""Attribute of a trial that starts: its whole configuration as JSON, as it was resolved."""
REPEATED = "repeats"
"""Attribute of a trial that took no slot: the number of the one that tried the same before."""
FORBIDDEN = "forbidden"
"""Attribute of a trial that took no slot: why the space does not allow it."""
TRANSFERRED = "from an earlier study"
"""Attribute of a trial that was taken over from an earlier study."""

_LIMITS = {
    "memory": "budget_gib",
    "inference-memory": "inference_budget_gib",
    "seconds": "seconds_per_case",
}


class TuningStudy(optuna.Study):
    """A study whose stopped trials keep their intermediate values whatever the number of objectives."""

    @property
    def direction(self) -> StudyDirection:
        """Direction of the first objective, for comparing stopped trials: Optuna has none for several."""
        return self.directions[0]

    @classmethod
    def open_or_create(cls, database: Path, name: str, optimization: OptimizationConfig) -> "TuningStudy":
        """The study in a SQLite file, made where there is none.

        Raises:
            UserError: the file holds another study, or one of another schema.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = _open_storage(database)
        name = legal_experiment(name)
        others = set(optuna.get_all_study_names(storage)) - {name}
        if others:
            raise UserError(
                database,
                expected=f"the study {name!r}",
                found=f"{others.pop()!r}",
                remedy="give its name by --experiment",
            )
        optuna.create_study(
            storage=storage, study_name=name, directions=optimization.directions, load_if_exists=True
        )
        study = cls(study_name=name, storage=storage, pruner=optuna.pruners.NopPruner())
        if SCHEMA not in study.user_attrs and not study.get_trials(deepcopy=False):
            study.set_user_attr(SCHEMA, schemas.STUDY)
            set_metric_names(study, optimization.objectives)
        study.check_schema(database)
        return study

    @classmethod
    def load(cls, database: Path) -> "TuningStudy":
        """The only study in a SQLite file.

        Raises:
            UserError: it is of another schema.
        """
        storage = _open_storage(database)
        (name,) = optuna.get_all_study_names(storage)
        study = cls(study_name=name, storage=storage)
        study.check_schema(database)
        return study

    def check_schema(self, database: Path) -> None:
        """Reject a study that another version of this package wrote.

        Raises:
            UserError: names the file and both versions.
        """
        found = self.user_attrs.get(SCHEMA)
        if found != schemas.STUDY:
            raise UserError(
                database,
                expected=f"a study of schema {schemas.STUDY}",
                found="one without a schema" if found is None else f"schema {found}",
                remedy="start the study anew with another --output and --experiment",
            )

    @property
    def objectives(self) -> tuple[str, ...]:
        """The names of the objectives."""
        return metric_names(self) or ("dice", "memory")[: len(self.directions)]

    @property
    def limits(self) -> dict[str, float]:
        """What no trial may pass, by the name of the objective that is limited."""
        settings = self.user_attrs.get(SETTINGS, {})
        limits = {name: settings.get(option) for name, option in _LIMITS.items()}
        return {name: float(limit) for name, limit in limits.items() if limit is not None}

    @property
    def parent_run_key(self) -> str:
        """The id of the study's own run, kept here so that a resumed study finds it again."""
        known: str | None = self.user_attrs.get(TRIAL)
        if known is None:
            known = uuid.uuid4().hex
            self.set_user_attr(TRIAL, known)
        return known

    def run_id(self, number: int, seed: int) -> str:
        """The id of one training of a trial, the same in every session."""
        return f"{self.parent_run_key}-{number}-{seed}"

    def suggested_trials(self) -> list[FrozenTrial]:
        """All of this study's own trials that were suggested; not copied, only to read."""
        states = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
        trials = self.get_trials(deepcopy=False, states=states)
        return [trial for trial in trials if TRANSFERRED not in trial.user_attrs]

    def n_feasible(self) -> int:
        """Number of feasible trials to learn from, those of an earlier study included."""
        trials = self.get_trials(deepcopy=False)
        return sum(
            is_feasible(trial) and trial.state != TrialState.WAITING and FORBIDDEN not in trial.user_attrs
            for trial in trials
        )

    def started_trials(self) -> list[FrozenTrial]:
        """The trials that took a slot: all but too large ones, repeated ones and those the space forbids."""
        return [
            trial
            for trial in self.suggested_trials()
            if not is_refused(trial) and not trial.user_attrs.keys() & {REPEATED, FORBIDDEN}
        ]

    def is_mostly_too_large(self) -> bool:
        """Whether most suggestions were too large."""
        trials = self.suggested_trials()
        return 2 * sum(is_refused(trial) for trial in trials) > len(trials)

    def has_waiting_points(self) -> bool:
        """Whether points wait to be suggested before the sampler's."""
        return bool(self.get_trials(deepcopy=False, states=(TrialState.WAITING,)))

    def calibration_ratio(self) -> float:
        """The ratio of measured to predicted peaks; a single outlier does not close the whole space."""
        ratios = [
            trial.user_attrs[MEMORY] / trial.user_attrs[PREDICTED]
            for trial in self.started_trials()
            if trial.user_attrs.keys() >= {MEMORY, PREDICTED} and end_of(trial) is not TrialEnd.OUT_OF_MEMORY
        ]
        return max(1.0, float(np.percentile(ratios, 75))) if ratios else 1.0

    def find_duplicate(self, trial: optuna.Trial) -> int | None:
        """The number of an earlier trial with the same parameters, which would come to the same."""
        known = (each for each in self.started_trials() if each.state != TrialState.FAIL)
        same = (each.number for each in known if each.number < trial.number and each.params == trial.params)
        return next(same, None)

    def running_trials(self) -> Iterator[optuna.Trial]:
        """The trials that were running when the study was left, to be resumed."""
        for trial in self.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            yield reopen_trial(self, trial)

    def trial_time(self) -> TrialTime | None:
        """What a study that began with a time limit gives each trial, in every session."""
        stored = self.user_attrs.get(TRIAL_TIME)
        return None if stored is None else TrialTime.from_dict(stored)

    def plan_trial_time(self, planned: TrialTime | None) -> None:
        """Store what each trial of a new study is given; one that has begun keeps to what it began with."""
        if planned is not None and not self.get_trials(deepcopy=False):
            self.set_user_attr(TRIAL_TIME, planned.to_dict())

    def check_settings(self, settings: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> None:
        """Store the settings of a new study; those of a resumed one must be the same.

        Args:
            defaults: values of settings that a study began without, as its version of this package had none.

        Raises:
            UserError: the study began with other settings; names the first.
        """
        now = json.loads(json.dumps(dict(settings)))
        stored = self.user_attrs.get(SETTINGS)
        if stored is None:
            self.set_user_attr(SETTINGS, now)
            return
        before = json.loads(json.dumps(dict(defaults or {}))) | stored
        for name, value in now.items():
            if name in {SPACE, HELPERS}:
                _check_code(name, before.get(name), value)
            elif before.get(name) != value:
                raise UserError(
                    f"resumed study, {name}",
                    expected=f"{before.get(name)}",
                    found=f"{value}",
                    remedy="give the same options, or another --output",
                )


def _open_storage(database: Path) -> optuna.storages.RDBStorage:
    """Optuna's storage in a SQLite file, made by one process at a time.

    Raises:
        UserError: the file cannot be used, or it holds something else.
    """
    check_database(database, write=True)
    try:
        with creation_lock(database):
            return optuna.storages.RDBStorage(
                sqlite_url(database), engine_kwargs={"connect_args": {"timeout": LOCKED_S}}
            )
    except (SQLAlchemyError, RuntimeError) as error:  # a RuntimeError is a file of another version of Optuna
        raise UserError(
            database,
            expected="an Optuna study",
            found=str(error).strip().splitlines()[0],
            remedy="give another --output",
        ) from error


@contextmanager
def storage_errors(database: Path) -> Iterator[None]:
    """Make one line of what keeps a study's file from being read and written in the block.

    Raises:
        UserError: names the file and the reason; those of a disk that takes nothing more stay.
    """
    try:
        yield
    except StorageInternalError as error:
        if disk_fault(error):
            raise
        writable = os.access(database.parent, os.W_OK)
        raise UserError(
            database,
            expected="a file that can be read and written",
            found=str(error.__cause__ or error).splitlines()[0],
            remedy=f"{'see which other program keeps it' if writable else 'make its disk writable'}, "
            "then continue by --resume",
        ) from error


def _check_code(name: str, before: Any, now: Any) -> None:
    """Reject another program; comments, docstrings, format and the order of imports may have changed."""
    texts = {"the space file": before} if name == SPACE else (before or {})
    current = {"the space file": now} if name == SPACE else now
    for file, text in texts.items():
        if not same_code(text or "", current.get(file, "")):
            raise UserError(
                f"resumed study, {name}",
                expected=f"{file} that it began with" if name == SPACE else f"{file} as it began with",
                found="another one",
                remedy="give the same options, or another --output",
            )


def set_constraints(trial: optuna.Trial, violations: Mapping[str, float]) -> None:
    """Store by how much a trial misses each limit, for samplers of any version."""
    for name, value in violation_attributes(violations).items():
        trial.set_user_attr(name, value)
    if hasattr(trial, "set_constraint"):
        for name, value in violations.items():
            trial.set_constraint(name, value)


def violation_attributes(violations: Mapping[str, float]) -> dict[str, Any]:
    """The attributes of a trial that misses its limits by so much."""
    others = {name: value for name, value in violations.items() if name != "memory"}
    return {VIOLATION: violations["memory"]} | ({OTHER_VIOLATIONS: others} if others else {})


def trainings_of(trial: FrozenTrial) -> list[dict[str, float]]:
    """The metrics of each training of a trial that has ended; several where it has several seeds."""
    if not trial.state.is_finished():
        return []
    return list(trial.user_attrs.get(SEEDS, {}).values()) or [trial.user_attrs.get(METRICS, {})]


def is_refused(trial: FrozenTrial) -> bool:
    """Whether a suggestion was predicted to be too large, and took no slot."""
    end = end_of(trial)
    return end is not None and end.is_refusal


def end_of(trial: FrozenTrial) -> TrialEnd | None:
    """How a trial ended; None for one that has not, and for a repeated one."""
    stored = trial.user_attrs.get(END)
    return None if stored is None or not trial.state.is_finished() else TrialEnd(stored)


def is_feasible(trial: FrozenTrial) -> bool:
    """Whether a trial kept to the limits, as far as is known."""
    end = end_of(trial)
    return end is None or not end.is_infeasible


def best_checkpoint(output: Path, number: int, seed: int, run: str) -> Path | None:
    """The complete checkpoint of the highest validation Dice that a training left; without one, the last."""
    found = list(complete_checkpoints(output, number, seed, run))
    scored = [folder for folder in found if load_state(folder).get("dice") is not None]
    best = max(scored, key=lambda folder: float(load_state(folder)["dice"]), default=None)
    return best or next(iter(found), None)


def folder_name(number: int, seed: int, trial_id: str) -> str:
    """The folder of one try of a training; several tries of the same one sort together."""
    return f"{number:03d}.{seed}-{trial_id}"


def latest_checkpoint(output: Path, number: int, seed: int, run: str) -> Path | None:
    """The last complete checkpoint that a training left."""
    return next(complete_checkpoints(output, number, seed, run), None)


def checkpoint_folders(output: Path, number: int, seed: int, run: str) -> list[Path]:
    """All that may be checkpoints of a training, as `complete_checkpoints` checks them."""
    tries = names_in(output / TRIALS_FOLDER, folder_name(number, seed, "*"))
    return [each for folder in [*tries, output / WORKERS_FOLDER / run] for each in checkpoints_in(folder)]


def complete_checkpoints(output: Path, number: int, seed: int, run: str) -> Iterator[Path]:
    """The checkpoints that a training left, the last first, without what was cut short or is another's.

    Args:
        output: the study's folder.
        run: the training's id, by which one of several workers is stored, and which a checkpoint carries.
    """
    found = checkpoint_folders(output, number, seed, run)
    found.sort(key=lambda folder: folder.stat().st_mtime, reverse=True)
    yield from (folder for folder in found if is_complete(folder) and is_of(folder, run))


def remove_unfinished(output: Path) -> None:
    """Remove what Ray began to store as a trial's checkpoint and did not finish, once no trial runs.

    Args:
        output: the study's folder.
    """
    for folder in [
        *(output / TRIALS_FOLDER).glob("*/checkpoint_*/"),
        *(output / WORKERS_FOLDER).glob("*/checkpoint_*/"),
    ]:
        if not is_complete(folder):
            shutil.rmtree(folder)
