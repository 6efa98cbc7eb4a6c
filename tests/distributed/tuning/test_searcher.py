"""What the Optuna study learns of trials, however they end."""

from dataclasses import replace
from pathlib import Path

import pytest
from driven_search import Opening, result, suggestion
from optuna.trial import TrialState
from tuning_study import read_trials

from ossnet.config import Config
from ossnet.distributed.cluster.nodes import Hosts
from ossnet.distributed.tuning.result import StudyResult
from ossnet.distributed.tuning.searcher import StudySearch
from ossnet.errors import UserError
from ossnet.metric_names import ERROR, FAULTY_NODE, MEMORY


def test_a_suggestion_is_a_whole_configuration(search: StudySearch, tiny: Config) -> None:
    found = suggestion(search, "a")
    config = found.config
    assert config.model.decoder_width == 2 ** found.params["log2_width"]
    assert config.sampling.border_fraction == found.params["border"]
    assert config.training == tiny.training
    assert found.search_params == ("model.decoder_width", "sampling.border_fraction")
    assert suggestion(search, "a") == found  # the same trial, requested again


@pytest.mark.chaos("a node that lacks the store")
def test_what_a_node_fails_starts_again_elsewhere_before_all_others(
    opening: Opening, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = Hosts(frozenset({"bad", "good"}), 2)
    monkeypatch.setattr("ossnet.distributed.cluster.node_faults.find_hosts", lambda _: hosts)
    search, failed = opening(trials=3), {ERROR: "bad: no store", FAULTY_NODE: "bad"}
    first, second = suggestion(search, "a"), suggestion(search, "b")
    search.on_trial_result("a", result(1, 0.25))
    search.on_trial_complete("a", failed)
    again = suggestion(search, "c")
    assert (again.number, again.params, again.run, again.avoid) == (0, first.params, first.run, ())
    search.on_trial_complete("b", failed)
    assert suggestion(search, "d") == replace(second, avoid=("bad",))
    assert suggestion(search, "e").number == 2
    for name in "cde":
        search.on_trial_complete(name, result(2, 0.5, final=1.0))
    assert search.suggest("f") == StudySearch.FINISHED
    assert [trial.state for trial in read_trials(tmp_path)] == [TrialState.COMPLETE] * 3
    assert read_trials(tmp_path)[0].intermediate_values == {1: 0.25, 2: 0.5}


def test_without_a_node_that_is_left_trials_wait_for_the_next_session(
    opening: Opening, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "ossnet.distributed.cluster.node_faults.find_hosts", lambda _: Hosts(frozenset({"bad"}), 1)
    )
    search, failed = opening(trials=9), {ERROR: "bad: no store", FAULTY_NODE: "bad"}
    begun = [suggestion(search, name) for name in "abc"]
    for name in "ab":
        search.on_trial_complete(name, failed)
    assert search.suggest("d") is None  # one that runs may finish
    search.on_trial_complete("c", result(2, 0.5, final=1.0))
    assert search.suggest("d") == StudySearch.FINISHED
    states = [trial.state for trial in read_trials(tmp_path)]
    assert states == [TrialState.RUNNING, TrialState.RUNNING, TrialState.COMPLETE]
    resumed = opening(trials=9)
    assert [suggestion(resumed, name) for name in "ab"] == begun[:2]


def test_no_trial_comes_to_a_result(search: StudySearch, tmp_path: Path) -> None:
    for name in "ab":
        suggestion(search, name)
        search.on_trial_complete(name, {ERROR: f"the loss of {name} is nan"})
    line = "expected a trial that comes to a result, found none: the loss of . is nan"
    with pytest.raises(UserError, match=line):
        StudyResult.of(search.study, tmp_path)


TUPLES = """
POINTS_TO_EVALUATE = [{"channels": (4, 8, 16), "blocks": None}]

def space(trial):
    blocks = trial.suggest_categorical("blocks", [None, True, (1, (2, 3))])
    return {
        "model.encoder_channels": trial.suggest_categorical("channels", [(8, 16), (4, 8, 16)]),
        "model.decoder_blocks": {None: 2, True: 3}.get(blocks, 4),
    }
"""


def test_tuples_among_choices(opening: Opening, tmp_path: Path) -> None:
    search = opening(TUPLES, trials=6, concurrent=1)
    first = suggestion(search, "a")
    assert first.params == {"channels": "[4, 8, 16]", "blocks": None}
    assert (first.config.model.encoder_channels, first.config.model.decoder_blocks) == ((4, 8, 16), 2)
    search = opening(TUPLES, trials=6, concurrent=1)  # its driver was killed
    assert suggestion(search, "a") == first
    search.on_trial_complete("a", result(4, 0.5, final=1.0))
    configs = {first.config_json}
    for name in "bcdef":
        configs.add(suggestion(search, name).config_json)
        search.on_trial_complete(name, result(4, 0.5, final=1.0))
    assert len(configs) == 6  # all there are


def test_every_end_is_stored_as_what_it_is(search: StudySearch, tmp_path: Path) -> None:
    for name in "abcdef":
        search.suggest(name)
    for epoch, dice in ((1, None), (2, 0.25), (3, None)):
        search.on_trial_result("a", result(epoch, dice))
    search.on_trial_result("a", result(4, 0.75, final=1.0))
    search.on_trial_complete("a", result(4, 0.75, final=1.0))
    search.on_trial_result("b", result(2, 0.5))
    search.on_trial_complete(
        "b", result(4, 0.25)
    )  # Ray Tune does not report the result that a trial is stopped at
    search.on_trial_complete("c", error=True)
    search.on_trial_complete("d", {ERROR: "the loss is nan"})
    search.on_trial_result("e", result(2, 0.125))
    search.finalize()  # an interruption cut e and f off
    search.on_trial_complete("a", error=True)  # its end is known already
    finished, stopped, lost, failed, cut, unborn = read_trials(tmp_path)
    assert (finished.state, finished.value) == (TrialState.COMPLETE, 0.75)
    assert finished.intermediate_values == {2: 0.25, 4: 0.75}
    assert finished.user_attrs[MEMORY] == 0.5
    assert (stopped.state, stopped.intermediate_values) == (TrialState.PRUNED, {2: 0.5, 4: 0.25})
    assert [lost.state, failed.state] == [TrialState.FAIL, TrialState.FAIL]
    assert (cut.state, cut.intermediate_values) == (TrialState.PRUNED, {2: 0.125})
    assert (unborn.state, unborn.intermediate_values) == (TrialState.PRUNED, {})
    ends = [trial.user_attrs["end"] for trial in (finished, stopped, lost, failed, cut, unborn)]
    assert ends == ["finished", "early_stopped", "failed", "failed", "interrupted", "interrupted"]


def test_what_would_not_fit_is_rejected_and_replaced(opening: Opening, budget: float, tmp_path: Path) -> None:
    search = opening(trials=6, concurrent=1, budget_gib=budget)
    for name in "abcdef":
        found = suggestion(search, name)
        assert found.predicted_gib is not None
        assert found.predicted_gib <= budget
        assert search.suggest("z") is None  # one at a time
        search.on_trial_complete(name, result(4, 0.5, final=1.0) | {MEMORY: found.predicted_gib})
    assert search.suggest("g") == StudySearch.FINISHED
    trials = read_trials(tmp_path)
    rejected = [trial for trial in trials if trial.user_attrs.get("end") == "infeasible: predicted"]
    assert rejected
    assert len(trials) == 6 + len(rejected)
    for trial in trials:
        too_large = trial in rejected
        assert (trial.params["log2_width"] > 4) == too_large
        assert (trial.constraints["memory"] > 0) == too_large
        assert trial.state == (TrialState.PRUNED if too_large else TrialState.COMPLETE)


def test_a_suggestion_that_is_no_network_is_forbidden_and_replaced(opening: Opening, tmp_path: Path) -> None:
    body = """
def space(trial):
    levels = trial.suggest_int("levels", 1, 6)
    return {"model.encoder_channels": (4,) * levels, "training.batch_size": 1}
"""
    search = opening(body, trials=3, concurrent=3, budget_gib=8.0)
    found = [suggestion(search, name) for name in "abc"]
    assert not any(each.config.is_too_deep for each in found)
    forbidden = [trial for trial in read_trials(tmp_path) if "forbidden" in trial.user_attrs]
    assert all("at the coarsest level" in trial.user_attrs["forbidden"] for trial in forbidden)
    assert {trial.params["levels"] for trial in forbidden} & {5, 6}


def test_a_finished_trial_is_trained_with_further_seeds(opening: Opening, tmp_path: Path) -> None:
    search = opening(trials=2, concurrent=1, seeds=3)
    runs = set()
    for name, dice in (("a", 0.25), ("b", 0.5), ("c", 0.75)):
        found = suggestion(search, name)
        runs.add(found.run)
        assert found.config.training.seed == found.seed == len(runs) - 1
        search.on_trial_result(name, result(4, dice, final=1.0))
        search.on_trial_complete(name, result(4, dice, final=1.0))
    assert len(runs) == 3
    suggestion(search, "d")
    search.on_trial_complete("d", result(2, 0.125))  # stopped early: one seed is enough
    assert search.suggest("e") == StudySearch.FINISHED
    first, second = read_trials(tmp_path)
    assert (first.value, first.intermediate_values) == (0.5, {4: 0.25})
    assert second.state == TrialState.PRUNED
