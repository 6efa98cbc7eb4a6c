"""The last training of a study: it continues where it was left, and what it comes to is never worse."""

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import pytest
from driven_search import Opening, result, suggestion
from s3_server import s3_server
from torch import nn
from tuning_study import make_spec, read_runs, read_trials

from ossnet.config import Config
from ossnet.data import Store
from ossnet.distributed.launch import launch_study
from ossnet.distributed.tuning.config import OptimizationConfig
from ossnet.distributed.tuning.final.refit import REFIT, Refit, _plan, refit_best, refit_checkpoint
from ossnet.distributed.tuning.result import StudyResult, TrialCounts
from ossnet.distributed.tuning.storage import TuningStudy
from ossnet.distributed.tuning.study import StudySpec
from ossnet.output.remote.copies import fetch_input
from ossnet.output.remote.folder import RemoteFolder
from ossnet.planning.allocation import allocate
from ossnet.planning.study_time import StudyTime
from ossnet.training.checkpoint import load_state, save_checkpoint

SPACE = """
POINTS_TO_EVALUATE = [{"rate": 0.02}]

def space(trial):
    return {"optimizer.learning_rate": trial.suggest_float("rate", 0.0, 0.02)}
"""


def refit_spec(folder: Path, base: Config, store: Store, **options: Any) -> StudySpec:
    return make_spec(folder, SPACE, base, store, trials=1, refit=True, **options)


def save(folder: Path, dice: float | None) -> Path:
    save_checkpoint(folder, network=nn.Linear(1, 1), documents={}, state={"dice": dice})
    return folder


@pytest.mark.parametrize(
    ("before", "after", "peak_gib", "kept"),
    [
        (0.5, 0.6, 0.1, 0.6),
        (0.5, 0.5, 0.1, 0.5),
        (0.5, 0.4, 0.1, 0.5),
        (0.5, None, 0.1, 0.5),
        (0.5, 0.6, 1.1, 0.5),  # over the budget
        (None, 0.1, 0.1, 0.1),
    ],
)
def test_the_better_checkpoint_is_kept(
    tiny: Config,
    store: Store,
    tmp_path: Path,
    before: float | None,
    after: float | None,
    peak_gib: float,
    kept: float,
) -> None:
    optimization = OptimizationConfig(budget_gib=1.0)
    spec = refit_spec(tmp_path, tiny, store, max_time_s=60.0, optimization=optimization)
    spec.output.mkdir()
    study = TuningStudy.open_or_create(spec.database, "mine", optimization)
    refit = Refit(
        "again", 0, 3, tiny.to_json(), 0.1, ended=True, metrics={"memory/peak_allocated_gib": peak_gib}
    )
    study.set_user_attr(REFIT, asdict(refit))
    save(refit.folder(spec.output) / "checkpoint", after)
    found_before = StudyResult(
        title="003 oss-net-c",
        params={},
        metrics={"dice/val": before or 0.0},
        dice=(before or 0.0,),
        checkpoint=save(spec.output / "checkpoint", before),
        run="first",
        counts=TrialCounts.of(study),
    )
    limit = StudyTime(time.time() + 60, allocate(60.0, slots=1, refit=True), timed=True)
    found = refit_best(spec, study, cast(Any, None), found_before, limit)  # it has ended: nothing is logged
    assert found.checkpoint is not None
    assert load_state(found.checkpoint)["dice"] == kept
    assert found.metrics["dice/val"] == kept
    assert found.run == ("again" if kept == after != before else "first")
    assert found.refit
    assert (refit_checkpoint(spec, study) is None) == (peak_gib > 1.0)


def planned_weights(opening: Opening, spec: StudySpec, folder: Path) -> Path:
    """Where the last training starts, after a search of one trial in this folder."""
    search = opening(trials=1)
    suggestion(search, "a")
    search.on_trial_complete("a", result(4, 0.5, final=1.0))
    planned = _plan(spec, search.study, 20.0, spec.output / "checkpoint")
    config, (trial,) = Config.from_json(planned.config), read_trials(folder)
    assert planned.trial == trial.number
    assert config.optimizer == Config.from_json(trial.user_attrs["configuration"]).optimizer
    assert config.training.max_time_s == 20
    assert config.training.initialize_from is not None
    return Path(config.training.initialize_from)


def test_it_begins_with_the_best_weights(
    opening: Opening, tiny: Config, store: Store, tmp_path: Path
) -> None:
    spec = refit_spec(tmp_path, tiny, store, max_time_s=60.0)
    checkpoint = save(spec.output / "checkpoint", 0.5)
    assert planned_weights(opening, spec, tmp_path) == checkpoint


def test_weights_in_s3_are_found_from_another_machine(
    opening: Opening, tiny: Config, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3_server(tmp_path) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "here"))
        output = RemoteFolder.at(f"s3://{server.bucket}/study").path
        save(output / "checkpoint", 0.5)
        spec = replace(refit_spec(tmp_path, tiny, store, max_time_s=60.0), output=output)
        weights = planned_weights(opening, spec, tmp_path)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
        found = fetch_input(weights)
        assert found.is_relative_to(tmp_path / "elsewhere")
        assert load_state(found)["dice"] == 0.5


@pytest.mark.slow
@pytest.mark.usefixtures("cluster", "mlflow_store")
def test_an_interrupted_last_training_continues_without_a_further_search(
    tiny: Config,
    store: Store,
    tmp_path: Path,
    interrupt: Callable[[Callable[[], bool]], None],
    all_cpus_free: Callable[[], None],
) -> None:
    spec = refit_spec(tmp_path, tiny, store, max_time_s=240.0, began=time.time())
    interrupt(lambda: any((tmp_path / "study" / "refit").glob("*/train/checkpoint_*/version.json")))
    with pytest.raises(KeyboardInterrupt):
        launch_study(spec)
    all_cpus_free()
    (trial,) = read_trials(spec.output)
    assert trial.state.is_finished()
    (last,) = (tmp_path / "study" / "refit").iterdir()
    steps = max(load_state(each)["progress"]["step"] for each in last.glob("train/checkpoint_*/"))

    began = time.time()
    resumed = replace(spec, resume=True, trials=5, max_time_s=60.0, began=began)
    ended = launch_study(resumed)
    assert time.time() - began < 90
    assert ended.refit
    assert ended.checkpoint is not None
    assert len(read_trials(spec.output)) == 1
    last_state, kept = load_state(last / "checkpoint"), load_state(ended.checkpoint)
    assert kept["dice"] >= last_state["dice"]
    assert max(load_state(each)["progress"]["step"] for each in last.glob("train/checkpoint_*/")) > steps

    parent, children = read_runs(tmp_path)
    (again,) = (run for run in children if REFIT in run.data.tags)
    assert (again.info.status, parent.info.status) == ("FINISHED", "FINISHED")
    assert again.data.tags[REFIT] == "0"
    assert again.data.params["training.initialize_from"] == str(spec.output / "checkpoint")
    assert (
        again.data.metrics["dice/val"] == pytest.approx(ended.metrics["dice/val"])
        or "not better" in ended.refit
    )
    assert len(children) == 2
