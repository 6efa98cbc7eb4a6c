"""The metrics of a study's run, a step for each trial that has ended."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
from optuna.trial import TrialState

from ossnet.distributed.tracking.client import MetricPoint
from ossnet.distributed.tuning.callbacks import StudyMetrics
from ossnet.distributed.tuning.config import OptimizationConfig
from ossnet.distributed.tuning.monitor import TrialMonitor
from ossnet.distributed.tuning.storage import END, METRICS, SEEDS, TuningStudy
from ossnet.distributed.tuning.trial import TrialEnd
from ossnet.metric_names import (
    BEST_DICE,
    ELAPSED,
    FEASIBLE_SHARE,
    GPU_HOURS,
    STUDY_GPU_HOURS,
    STUDY_HOURS,
)


def test_best_dice_feasible_share_and_hours_so_far(tmp_path: Path) -> None:
    study = TuningStudy.open_or_create(tmp_path / "study.db", "s", OptimizationConfig())
    monitor, logged = TrialMonitor(), list[tuple[str, list[MetricPoint]]]()
    tracker: Any = SimpleNamespace(log=SimpleNamespace(remote=lambda *call: logged.append(call)))
    metrics = StudyMetrics(tracker, study, monitor)
    ends = [(TrialEnd.FINISHED, 0.5), (TrialEnd.INFEASIBLE_MEASURED, None), (TrialEnd.FINISHED, 0.25)]
    for number, (end, dice) in enumerate(ends):
        done = TrialState.FAIL if dice is None else TrialState.COMPLETE
        study.add_trial(optuna.create_trial(value=dice, state=done, user_attrs={END: str(end)}))
        monitor.update(str(number), {ELAPSED: 1800.0})
        trial: Any = SimpleNamespace(trial_id=str(number))
        metrics.on_trial_complete(0, [], trial)
    assert {run for run, _ in logged} == {study.parent_run_key}
    values = [{point.name: point.value for point in points} for _, points in logged]
    assert [each[BEST_DICE] for each in values] == [0.5, 0.5, 0.5]
    assert [each[FEASIBLE_SHARE] for each in values] == [1.0, 0.5, 2 / 3]
    assert [each[STUDY_HOURS] for each in values] == [0.5, 1.0, 1.5]
    assert [points[0].step for _, points in logged] == [1, 2, 3]
    assert all(STUDY_GPU_HOURS not in each for each in values)  # without a GPU


def test_a_resumed_study_counts_the_hours_of_before(tmp_path: Path) -> None:
    study = TuningStudy.open_or_create(tmp_path / "study.db", "s", OptimizationConfig())
    spent = {ELAPSED: 3600.0, GPU_HOURS: 0.5}
    for attributes in ({METRICS: spent}, {METRICS: spent, SEEDS: {"0": spent, "1": spent}}):
        ended = {END: str(TrialEnd.FINISHED), **attributes}
        study.add_trial(optuna.create_trial(value=0.5, state=TrialState.COMPLETE, user_attrs=ended))
    monitor, logged = TrialMonitor(), list[list[MetricPoint]]()
    tracker: Any = SimpleNamespace(log=SimpleNamespace(remote=lambda run, points: logged.append(points)))
    metrics = StudyMetrics(tracker, study, monitor)
    monitor.update("2", {ELAPSED: 1800.0, GPU_HOURS: 0.25})
    ended = {END: str(TrialEnd.FINISHED), METRICS: {ELAPSED: 1800.0, GPU_HOURS: 0.25}}
    study.add_trial(optuna.create_trial(value=0.25, state=TrialState.COMPLETE, user_attrs=ended))
    new: Any = SimpleNamespace(trial_id="2")
    metrics.on_trial_complete(0, [], new)
    values = {point.name: point.value for point in logged[0]}
    assert (values[STUDY_HOURS], values[STUDY_GPU_HOURS]) == (3.5, 1.75)
