"""What a search draws again: what was tried before, and what the space forbids."""

from pathlib import Path

import pytest
from driven_search import Opening, result, suggestion
from optuna.trial import TrialState
from tuning_study import read_trials

from ossnet.distributed.tuning.result import StudyResult, TrialCounts, feasible_fraction
from ossnet.distributed.tuning.searcher import StudySearch
from ossnet.errors import UserError


def test_nothing_is_tried_twice(opening: Opening, tmp_path: Path) -> None:
    body = (
        "def space(trial):\n"
        "    return {'model.decoder_width': trial.suggest_categorical('width', [4, 8, 16])}\n"
    )
    search = opening(body, trials=9, concurrent=1)
    widths = []
    for name in "abc":
        widths.append(suggestion(search, name).params["width"])
        search.on_trial_complete(name, result(1, 0.5, final=1.0))
    assert sorted(widths) == [4, 8, 16]
    assert search.suggest("d") == StudySearch.FINISHED
    trials = read_trials(tmp_path)
    assert sum(trial.state == TrialState.COMPLETE for trial in trials) == 3
    repeated = [trial for trial in trials if "repeats" in trial.user_attrs]
    assert len(repeated) == len(trials) - 3
    for trial in repeated:
        assert trial.state == TrialState.FAIL
        assert trials[trial.user_attrs["repeats"]].params == trial.params


def test_repeats_are_no_rejections(opening: Opening, tmp_path: Path) -> None:
    body = (
        "def space(trial):\n    return {'model.decoder_width': trial.suggest_categorical('width', [4, 8])}\n"
    )
    search = opening(body, trials=5, concurrent=1)
    for name in "ab":
        suggestion(search, name)
        search.on_trial_complete(name, result(1, 0.5, final=1.0))
    assert search.suggest("c") == StudySearch.FINISHED
    counts = TrialCounts.of(search.study)
    assert (counts.finished, counts.rejected, counts.forbidden) == (2, 0, 0)
    assert counts.repeated == len(search.study.trials) - 2
    assert counts.redrawn == {"tried before": counts.repeated}
    assert "too large" not in str(counts)
    found = StudyResult.of(search.study, tmp_path)
    assert found.summary()["trials"] == (
        f"2 finished, 0 stopped early, 0 failed, {counts.repeated} tried before"
    )
    trials = found.to_dict()["trials"]
    assert (trials["rejected"], trials["repeated"], trials["forbidden"]) == (0, counts.repeated, 0)
    assert f"2 of them started ({counts.repeated} tried before)" in feasible_fraction(search.study)


HALF = """
def space(trial):
    width = trial.suggest_categorical("width", [4, 8, 16, 32])
    if width > trial.suggest_int("limit", 4, 20): raise optuna.TrialPruned("too wide")
    return {"model.decoder_width": width}
"""


@pytest.mark.parametrize("sampler", ["gp", "nsga2", "tpe"])
def test_what_the_space_forbids_is_drawn_again(opening: Opening, tmp_path: Path, sampler: str) -> None:
    search = opening(f"import optuna\n{HALF}", trials=8, concurrent=1, sampler=sampler, n_startup_trials=4)
    for name in "abcdefgh":
        found = suggestion(search, name)
        assert found.params["width"] <= found.params["limit"]
        search.on_trial_complete(name, result(4, found.params["width"] / 32, final=1.0))
    assert search.suggest("z") == StudySearch.FINISHED
    counts = TrialCounts.of(search.study)
    assert (counts.finished, counts.rejected) == (8, 0)
    assert counts.forbidden > 0
    forbidden = [trial for trial in read_trials(tmp_path) if "forbidden" in trial.user_attrs]
    assert len(forbidden) == counts.forbidden
    assert all(trial.params["width"] > trial.params["limit"] for trial in forbidden)
    assert {trial.state for trial in forbidden} == {TrialState.PRUNED}
    assert {trial.user_attrs["forbidden"] for trial in forbidden} == {"too wide"}


def test_points_to_evaluate_may_be_forbidden_and_all_that_is_allowed(
    opening: Opening, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ossnet.distributed.tuning.searcher.MOST_REDRAWS", 20)
    body = (
        "from optuna import TrialPruned\n"
        "POINTS_TO_EVALUATE = [{'rate': 0.5}, {'rate': 0.25}]\n"
        "def space(trial):\n"
        "    if trial.suggest_float('rate', 0, 1) != 0.25: raise TrialPruned\n"
        "    return {'optimizer.learning_rate': 0.25}\n"
    )
    search = opening(body, trials=3, concurrent=1)
    assert suggestion(search, "a").params == {"rate": 0.25}
    search.on_trial_complete("a", result(4, 0.5, final=1.0))
    with caplog.at_level("INFO"):
        assert search.suggest("b") == StudySearch.FINISHED
    assert "the space forbade 20 suggestions: no further trial starts" in caplog.text
    counts = TrialCounts.of(search.study)
    assert (counts.finished, counts.forbidden) == (1, 21)


def test_nothing_is_allowed(opening: Opening, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ossnet.distributed.tuning.searcher.MOST_REDRAWS", 5)
    search = opening("import optuna\ndef space(trial): raise optuna.TrialPruned\n", trials=3)
    assert search.suggest("a") == StudySearch.FINISHED
    line = "expected a suggestion that can start, found none: 5 forbidden by the space"
    with pytest.raises(UserError, match=line):
        StudyResult.of(search.study, tmp_path)
