"""A study whose file and its copy are both lost is made anew from MLflow and Ray Tune's folder."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from optuna.trial import FrozenTrial, TrialState

from ossnet.config import Config
from ossnet.distributed.tracking.client import MetricPoint, RunSpec, Tracker, TrackingConfig
from ossnet.distributed.tuning.config import OptimizationConfig
from ossnet.distributed.tuning.outcomes import OutcomeWriter
from ossnet.distributed.tuning.recovery.database import recover_database
from ossnet.distributed.tuning.recovery.rebuild import StudyParts, rebuild_study
from ossnet.distributed.tuning.search_space import Space
from ossnet.distributed.tuning.storage import FORBIDDEN, TuningStudy, end_of
from ossnet.distributed.tuning.trial import TrialEnd, TrialOutcome, TrialSpec
from ossnet.errors import UserError
from ossnet.metric_names import EPOCH, MEMORY, VAL_DICE

SPACE = """
def space(trial):
    return {"optimizer.learning_rate": trial.suggest_float("rate", 1e-4, 0.02, log=True)}
"""
ENDS = {
    0: TrialOutcome(TrialEnd.FINISHED, {VAL_DICE: 0.75, MEMORY: 0.5}),
    1: TrialOutcome(TrialEnd.STOPPED_EARLY, {VAL_DICE: 0.25, MEMORY: 0.5}),
    2: TrialOutcome(TrialEnd.OUT_OF_MEMORY, {MEMORY: 4.0}),
    3: TrialOutcome(TrialEnd.FAILED, {}, "the loss is nan"),
    4: TrialOutcome(TrialEnd.INTERRUPTED, {VAL_DICE: 0.5, MEMORY: 0.5}),
}
LOST = 5  # took no slot
RUNNING = 6


@pytest.fixture
def parts(tmp_path: Path, mlflow_store: Path, monkeypatch: pytest.MonkeyPatch) -> StudyParts:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mine.py").write_text(SPACE)
    tracking = TrackingConfig.at(tmp_path, "mine")
    return StudyParts("mine", Space(tmp_path / "mine.py"), OptimizationConfig(), {"workers": 1}, tracking)


@pytest.fixture
def study(tmp_path: Path, parts: StudyParts, tiny: Config) -> TuningStudy:
    """A study as it was told, with its runs in MLflow and Ray Tune's file of its two sessions."""
    study = TuningStudy.open_or_create(tmp_path / "before.db", "mine", parts.optimization)
    tracker, writer = Tracker(parts.tracking, study.parent_run_key), OutcomeWriter(study, parts.optimization)
    specs = list[TrialSpec]()
    for number in range(7):
        trial = study.ask()
        parts.space(trial)
        if number == LOST:
            trial.set_user_attr(FORBIDDEN, "too wide")
            study.tell(trial, state=TrialState.PRUNED)
            continue
        run = study.run_id(number, 0)
        specs.append(TrialSpec(tiny.to_json(), run, number, 0, 1, trial.params))
        tracker.open_run(RunSpec(run, f"{number}"))
        outcome = ENDS.get(number)
        for epoch in (2, 4) if outcome is None or VAL_DICE in outcome.metrics else ():
            dice = 0.1 * epoch if outcome is None or epoch == 2 else outcome.metrics[VAL_DICE]
            now = time.time_ns() // 1_000_000
            tracker.log(
                run, [MetricPoint(*each, 3 * epoch, now) for each in ((VAL_DICE, dice), (EPOCH, epoch))]
            )
            trial.storage.set_trial_intermediate_value(trial._trial_id, epoch, dice)
        if outcome is None:
            continue
        peaks = {name: value for name, value in outcome.metrics.items() if name == MEMORY}
        tracker.log(run, [MetricPoint(name, value, 1, 0) for name, value in peaks.items()])
        tracker.close(run, outcome.status, outcome.tags())
        if outcome.end is TrialEnd.FINISHED:
            writer.write_complete(trial, {"0": dict(outcome.metrics)})
        elif outcome.end is not TrialEnd.INTERRUPTED:
            writer.write(trial, outcome)
    tracker.flush()
    for session, part in enumerate((specs[:4], specs[2:])):  # the second one has some again
        states = [(json.dumps({"config": spec.to_dict()}), "{}") for spec in part]
        file = tmp_path / "study" / "trials" / f"experiment_state-2026-11-29_20-0{session}-00.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"trial_data": states}))
    return study


def described(trial: FrozenTrial) -> tuple[object, ...]:
    """What a study is continued and judged by."""
    constraints = {name: value for name, value in trial.system_attrs.items() if "constraint" in name}
    values = trial.values if trial.state == TrialState.COMPLETE else None
    return trial.params, trial.state, values, trial.intermediate_values, end_of(trial), constraints


@pytest.mark.chaos("study.db and its copy gone")
def test_it_has_what_the_study_had(study: TuningStudy, parts: StudyParts, tmp_path: Path) -> None:
    found = rebuild_study(parts, tmp_path / "study", tmp_path / "after.db")
    assert found == "6 trials, 4 of them ended"
    again = TuningStudy.load(tmp_path / "after.db")
    assert again.parent_run_key == study.parent_run_key
    before, after = study.get_trials(), again.get_trials()
    for number in (*ENDS, RUNNING):
        assert described(after[number]) == described(before[number]), number
    assert (len(after), after[LOST].state) == (len(before), TrialState.PRUNED)
    assert [trial.number for trial in again.started_trials()] == [*ENDS, RUNNING]
    assert {trial.number for trial in again.running_trials()} == {4, RUNNING}
    assert again.best_value == 0.75
    again.check_settings({"workers": 1})
    with pytest.raises(UserError, match="workers"):
        again.check_settings({"workers": 2})


def test_a_line_says_so_and_the_damaged_file_stays(
    study: TuningStudy, parts: StudyParts, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = tmp_path / "study" / "study.db"
    database.write_bytes(b"")
    recover_database(
        tmp_path / "study", resume=True, rebuild=lambda file: rebuild_study(parts, tmp_path / "study", file)
    )
    (line,) = caplog.messages
    assert (
        "the study is made anew from MLflow and the trials' folders, with 6 trials, 4 of them ended" in line
    )
    assert [path.name for path in (tmp_path / "study").iterdir() if path.name.startswith(".")] == []
    assert len(list((tmp_path / "study").glob("study.db.damaged-*"))) == 1
    assert len(TuningStudy.load(database).started_trials()) == 6


def test_without_runs_or_suggestions_nothing_is_made(
    study: TuningStudy, parts: StudyParts, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    assert rebuild_study(parts, tmp_path / "empty", tmp_path / "after.db") is None
    elsewhere = replace(parts, tracking=replace(parts.tracking, uri=f"sqlite:///{tmp_path}/none.db"))
    assert rebuild_study(elsewhere, tmp_path / "study", tmp_path / "after.db") is None
    assert not (tmp_path / "after.db").exists()
