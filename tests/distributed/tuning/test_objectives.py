"""Searches for several objectives under several limits: what is refused, what is compared, and the front."""

from itertools import combinations
from pathlib import Path

import optuna
import pytest
from driven_search import Opening, result, suggestion
from optuna.trial import TrialState
from tuning_study import NAME, make_spec, read_trials

from ossnet.commands._values import budget_gib
from ossnet.config import Config
from ossnet.data import Store
from ossnet.distributed.reports.figures import study_figures
from ossnet.distributed.tuning.config import OBJECTIVES, OptimizationConfig, parse_objectives
from ossnet.distributed.tuning.feasibility import log_feasibility
from ossnet.distributed.tuning.result import FrontMember, StudyResult, best_of, feasible_fraction, refusals_of
from ossnet.distributed.tuning.searcher import StudySearch
from ossnet.distributed.tuning.storage import END, METRICS, NETWORK_NAME, SETTINGS, TuningStudy
from ossnet.distributed.tuning.trial import TrialEnd
from ossnet.distributed.tuning.warm_start import transfer_trials
from ossnet.errors import UserError
from ossnet.metric_names import (
    CASE_MEDIAN,
    ERROR,
    INFERENCE_MEMORY,
    MEMORY,
    OUT_OF_MEMORY,
    VAL_DICE,
)
from ossnet.planning.configure.fingerprint import Fingerprint
from ossnet.planning.configure.planner import Planner
from ossnet.planning.estimator import PeakEstimator

COSTS = ("memory", "inference-memory", "seconds")
ALL = ("dice", *COSTS)


@pytest.fixture(scope="session")
def inference_budget(estimator: PeakEstimator, tiny: Config, store: Store) -> float:
    """What predicting a case needs with a width of 16: more with 32 and 64."""
    narrow, wide = (
        estimator.inference_gib(tiny.replace({"model.decoder_width": width}).resolve_for(store))
        for width in (16, 32)
    )
    assert narrow < wide
    return narrow


@pytest.mark.parametrize("costs", [each for size in range(4) for each in combinations(COSTS, size)])
def test_any_combination_is_a_study(costs: tuple[str, ...], tmp_path: Path) -> None:
    optimization = OptimizationConfig(objectives=parse_objectives(",".join([*reversed(costs), " dice"])))
    study = TuningStudy.open_or_create(tmp_path / "study.db", NAME, optimization)
    stored = optuna.load_study(study_name=NAME, storage=f"sqlite:///{tmp_path / 'study.db'}")
    assert stored.metric_names == list(study.objectives) == ["dice", *costs]
    assert [each.name for each in stored.directions] == ["MAXIMIZE"] + ["MINIMIZE"] * len(costs)
    other = OptimizationConfig(objectives=("dice", "seconds"))  # which its settings will refuse
    again = TuningStudy.open_or_create(tmp_path / "study.db", NAME, other)
    assert again.objectives == ("dice", *costs)
    known = {VAL_DICE: 0.5, MEMORY: 1.0, INFERENCE_MEMORY: 2.0}
    worst = {"memory": 1.0, "inference-memory": 2.0, "seconds": float("inf")}
    assert optimization.values(known) == [0.5, *(worst[each] for each in costs)]


@pytest.mark.parametrize(("directions", "names"), [(1, ("dice",)), (2, ("dice", "memory"))])
def test_a_study_of_an_earlier_version_names_no_objectives(directions: int, names: tuple[str, ...]) -> None:
    storage = optuna.storages.InMemoryStorage()
    optuna.create_study(storage=storage, study_name=NAME, directions=["maximize", "minimize"][:directions])
    study = TuningStudy(study_name=NAME, storage=storage)
    assert (study.objectives, study.limits) == (names, {})
    study.set_user_attr(SETTINGS, {"budget_gib": 2, "seconds_per_case": None})
    assert study.limits == {"memory": 2.0}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("memory", r"expected dice, .*, found memory; without Dice the smallest network would be the best"),
        ("", "expected dice, and any of memory, inference-memory, seconds, each once"),
        ("dice,memory,dice", "each once, found dice,memory,dice"),
        ("dice,second", "expected a known objective, found 'second'; did you mean 'seconds'"),
    ],
)
def test_objectives_that_cannot_be(text: str, line: str) -> None:
    with pytest.raises(UserError, match=line):
        parse_objectives(text)


@pytest.mark.parametrize(
    "sampler", ["tpe", *(pytest.param(name, marks=pytest.mark.slow) for name in ("gp", "nsga2"))]
)
def test_all_objectives_under_all_limits(
    opening: Opening, budget: float, inference_budget: float, tmp_path: Path, sampler: str
) -> None:
    """Some trials are too slow, some are stopped, one needs more memory than predicted, one is given none."""
    search = opening(
        trials=11,
        concurrent=1,
        sampler=sampler,
        objectives=ALL,
        budget_gib=2 * budget,
        inference_budget_gib=inference_budget,
        seconds_per_case=2.0,
        n_startup_trials=4,
    )
    small = {MEMORY: 0.5 * budget}
    unusual: dict[int, dict[str, object]] = {
        2: result(2, 0.25) | small | {CASE_MEDIAN: 1.0},
        4: {ERROR: "out of memory", OUT_OF_MEMORY: 4 * budget},
        5: result(1, None) | {MEMORY: 2.02 * budget},
        6: result(4, 0.5) | small | {CASE_MEDIAN: 2.5},
        8: result(4, 0.75, final=1.0) | small | {CASE_MEDIAN: 2.5},
    }
    for number in range(11):
        found = suggestion(search, str(number))
        assert found.inference_gib is not None
        assert found.inference_gib <= inference_budget
        usual = result(4, number / 16, final=1.0) | small | {CASE_MEDIAN: 1.0 + number / 16}
        search.on_trial_complete(str(number), unusual.get(number, usual))
    trials = [trial for trial in read_trials(tmp_path) if "repeats" not in trial.user_attrs]
    by_end: dict[str, list[optuna.trial.FrozenTrial]] = {}
    for trial in trials:
        by_end.setdefault(trial.user_attrs[END], []).append(trial)
    refused = by_end.pop(TrialEnd.INFERENCE_PREDICTED)
    assert {end: len(each) for end, each in by_end.items()} == {
        TrialEnd.FINISHED: 6,
        TrialEnd.STOPPED_EARLY: 1,
        TrialEnd.OUT_OF_MEMORY: 1,
        TrialEnd.INFEASIBLE_MEASURED: 1,
        TrialEnd.TOO_SLOW: 2,
    }
    for trial in refused:
        assert trial.constraints["inference"] > 0
        assert (trial.constraints["memory"] <= 0, trial.constraints["seconds"]) == (True, 0)
    for trial in by_end[TrialEnd.TOO_SLOW]:
        assert trial.constraints["seconds"] == pytest.approx(0.25)
        assert max(trial.constraints["memory"], trial.constraints["inference"]) <= 0
    (lost,), (stopped,) = by_end[TrialEnd.OUT_OF_MEMORY], by_end[TrialEnd.STOPPED_EARLY]
    assert lost.constraints["memory"] == pytest.approx(2 * budget)
    assert by_end[TrialEnd.INFEASIBLE_MEASURED][0].constraints["memory"] > 0
    assert (stopped.state, stopped.intermediate_values) == (TrialState.PRUNED, {2: 0.25})
    ended_as = TrialState.PRUNED if sampler == "tpe" else TrialState.COMPLETE
    infeasible = [*refused, *by_end[TrialEnd.TOO_SLOW], lost, *by_end[TrialEnd.INFEASIBLE_MEASURED]]
    assert {trial.state for trial in infeasible} == {ended_as}
    for trial in by_end[TrialEnd.FINISHED]:
        assert max(trial.constraints.values()) <= 0
        metrics = trial.user_attrs[METRICS]
        assert trial.values == [metrics[OBJECTIVES[name].metric] for name in ALL]
    best = best_of(search.study.started_trials())
    assert best is not None
    assert best.values[0] == 10 / 16  # one of 0.75 is too slow


def test_what_each_limit_refuses_is_named_by_network(
    opening: Opening, inference_budget: float, tmp_path: Path
) -> None:
    search = opening(trials=3, concurrent=1, inference_budget_gib=inference_budget, seconds_per_case=2.0)
    for number, seconds in enumerate((1.0, 2.5, 4.0)):
        suggestion(search, str(number))
        final = 1.0 if seconds < 2 else 0.0
        search.on_trial_complete(str(number), result(4, 0.5, final=final) | {CASE_MEDIAN: seconds})
    large, slow = sorted(refusals_of(search.study), key=lambda each: each.constraint)
    assert (slow.network, slow.trials, slow.least) == ("oss-net-c", 2, 2.5)
    assert (large.constraint, large.least > inference_budget) == ("inference", True)
    found = StudyResult.of(search.study, tmp_path)
    slow_text = "2 of oss-net-c (the fastest took 2.5 s a case: it needs --seconds-per-case 2.5s)"
    assert found.summary()["too slow"] == slow_text
    text = f"{large.trials} of oss-net-c (the smallest takes {large.least:.3g} GiB in inference: it needs "
    text += f"{large.option})"
    assert budget_gib(large.option.split()[1]) >= large.least
    assert found.summary()["too large"] == text
    sentence = feasible_fraction(search.study)
    assert f"Too large by prediction were {text}. Too slow were {slow_text}." in sentence
    assert "3 of them started" in sentence
    assert "1 of those kept to the limits" in sentence


def test_a_space_in_which_nothing_meets_the_inference_budget(
    opening: Opening,
    estimator: PeakEstimator,
    tiny: Config,
    store: Store,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is one line before the start; a search that starts all the same comes to an end."""
    body = """
def space(trial):
    return {"model.decoder_width": trial.suggest_categorical("width", [8, 16])}
"""
    space = make_spec(tmp_path, body, tiny, store).space
    limits = OptimizationConfig(inference_budget_gib=1e-6)
    planner = Planner.around(tiny, Fingerprint.of(store))
    line = r"expected configurations that fit 1e-06 GiB in inference, .*raise --inference-budget to that"
    with pytest.raises(UserError, match=line):
        log_feasibility(space, planner, limits, estimator.inference_gib)
    search = opening(body, trials=3, concurrent=1, inference_budget_gib=1e-6)
    with caplog.at_level("INFO"):
        assert search.suggest("a") == StudySearch.FINISHED
    assert "nothing else fits 1e-06 GiB in inference: no further trial starts" in caplog.text


def test_the_front_of_all_objectives(tmp_path: Path) -> None:
    """Only what kept to the limits and has all values is on it."""
    study = TuningStudy.open_or_create(
        tmp_path / "study.db", NAME, OptimizationConfig(objectives=("dice", "memory", "seconds"))
    )
    rows = [
        (0.9, 4.0, 3.0, TrialEnd.FINISHED),
        (0.8, 2.0, 3.0, TrialEnd.FINISHED),
        (0.8, 2.5, 3.0, TrialEnd.FINISHED),  # dominated by the one before
        (0.7, 4.0, 1.0, TrialEnd.FINISHED),
        (0.95, 1.0, 1.0, TrialEnd.TOO_SLOW),
    ]
    for number, (dice, memory, seconds, end) in enumerate(rows):
        trial = study.ask()
        trial.suggest_float("x", 0, 1)
        metrics = {MEMORY: memory, CASE_MEDIAN: seconds, VAL_DICE: dice}
        attributes = {METRICS: metrics, NETWORK_NAME: ("unet-3d", "oss-net-c")[number % 2], END: end}
        for name, value in attributes.items():
            trial.set_user_attr(name, value)
        study.tell(trial, [dice, memory, seconds])
    front = FrontMember.of_study(study)
    assert [member.number for member in front] == [0, 1, 3]
    assert str(front[1]) == "001 oss-net-c (Dice 0.8000, memory 2 GiB, seconds 3 s)"
    found = StudyResult.of(study, tmp_path)
    assert found.title == "000 unet-3d"
    assert str(found.summary()["Pareto front"]).count(";") == 2
    assert [each["values"]["dice"] for each in found.to_dict()["front"]] == [0.9, 0.8, 0.7]
    assert study_figures(study)["front"].startswith(b"\x89PNG")


def test_an_earlier_study_is_measured_by_the_limits_of_this_one(
    tiny: Config, store: Store, tmp_path: Path
) -> None:
    body = "def space(trial):\n    return {'optimizer.learning_rate': trial.suggest_float('r', 0.1, 1)}\n"
    space = make_spec(tmp_path, body, tiny, store).space
    earlier = TuningStudy.open_or_create(tmp_path / "earlier.db", NAME, OptimizationConfig())
    for metrics in ({MEMORY: 1.0, CASE_MEDIAN: 1.0}, {MEMORY: 1.0, CASE_MEDIAN: 3.0}, {MEMORY: 1.0}):
        trial = earlier.ask()
        trial.suggest_float("r", 0.1, 1)
        trial.report(0.5, 1)
        for name, value in {METRICS: metrics, END: TrialEnd.FINISHED}.items():
            trial.set_user_attr(name, value)
        earlier.tell(trial, 0.5)
    now = OptimizationConfig(objectives=("dice", "seconds"), budget_gib=2.0, seconds_per_case=2.0)
    study = TuningStudy.open_or_create(tmp_path / "study.db", NAME, now)
    assert transfer_trials(study, earlier, space, now) == (3, 0)
    fast, slow, unknown = read_trials(tmp_path)
    assert (fast.values, fast.user_attrs[END]) == ([0.5, 1.0], TrialEnd.FINISHED)
    assert (slow.user_attrs[END], slow.constraints) == (TrialEnd.TOO_SLOW, {"memory": -1.0, "seconds": 0.5})
    assert (unknown.state, unknown.user_attrs[END]) == (TrialState.PRUNED, TrialEnd.STOPPED_EARLY)
    assert unknown.intermediate_values == {1: 0.5}
