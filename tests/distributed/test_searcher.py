"""What the Optuna study is told of trials, however they end."""

import pickle
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from ossnet.config import Config
from ossnet.data import Store
from ossnet.distributed.names import MEMORY, MISTAKE
from ossnet.distributed.searcher import StudySearch
from ossnet.distributed.space import Space

BODY = """
def space(trial):
    width = 2 ** trial.suggest_int("log2_width", 2, 6)
    return {"model.decoder_width": width, "sampling.border_share": trial.suggest_float("border", 0, 1)}
"""


def result(epoch: int, dice: float | None, *, final: float = 0.0) -> dict[str, object]:
    validated = {} if dice is None else {"dice/val": dice}
    return {"epoch": float(epoch), "final": final, MEMORY: 0.5, **validated}


@pytest.fixture
def search(tiny: Config, store: Store, tmp_path: Path) -> StudySearch:
    (tmp_path / "mine.py").write_text(BODY)
    return StudySearch(
        Space(tmp_path / "mine.py"),
        base=tiny,
        store=store,
        database=tmp_path / "study.db",
        name="mine",
        metric="dice/val",
        seed=0,
    )


def stored(search: StudySearch, tmp_path: Path) -> list[optuna.trial.FrozenTrial]:
    """The study as a stranger reads it from its file."""
    study = optuna.load_study(study_name="mine", storage=f"sqlite:///{tmp_path / 'study.db'}")
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE
    return study.trials


def test_a_suggestion_is_a_whole_configuration(search: StudySearch, tiny: Config) -> None:
    suggestion = search.suggest("a")
    config = Config.from_json(suggestion["config"])
    assert config.model.decoder_width == 2 ** suggestion["params"]["log2_width"]
    assert config.sampling.border_share == suggestion["params"]["border"]
    assert config.training == tiny.training
    assert suggestion["varied"] == ["model.decoder_width", "sampling.border_share"]
    assert search.suggest("a") == suggestion  # the same trial, asked again


def test_every_end_is_told_as_what_it_is(search: StudySearch, tmp_path: Path) -> None:
    for name in "abcdef":
        search.suggest(name)
    for epoch, dice in ((1, None), (2, 0.25), (3, None)):
        search.on_trial_result("a", result(epoch, dice))
    search.on_trial_result("a", result(4, 0.75, final=1.0))
    search.on_trial_complete("a", result(4, 0.75, final=1.0))
    search.on_trial_result("b", result(2, 0.5))
    search.on_trial_complete(
        "b", result(4, 0.25)
    )  # Ray Tune does not tell the result that a trial is stopped at
    search.on_trial_complete("c", error=True)
    search.on_trial_complete("d", {MISTAKE: "the loss is nan"})
    search.on_trial_result("e", result(2, 0.125))
    search.settle()  # a time limit cut e and f off
    search.on_trial_complete("a", error=True)  # told already
    finished, stopped, failed, mistaken, cut, unborn = stored(search, tmp_path)
    assert (finished.state, finished.value) == (TrialState.COMPLETE, 0.75)
    assert finished.intermediate_values == {2: 0.25, 4: 0.75}
    assert finished.user_attrs[MEMORY] == 0.5
    assert (stopped.state, stopped.intermediate_values) == (TrialState.PRUNED, {2: 0.5, 4: 0.25})
    assert [failed.state, mistaken.state] == [TrialState.FAIL, TrialState.FAIL]
    assert (cut.state, cut.intermediate_values) == (TrialState.PRUNED, {2: 0.125})
    assert (unborn.state, unborn.intermediate_values) == (TrialState.PRUNED, {})


def test_the_searcher_survives_plain_pickle(search: StudySearch, tmp_path: Path) -> None:
    first = search.suggest("a")
    search.save(str(tmp_path / "state.pkl"))
    again = pickle.loads((tmp_path / "state.pkl").read_bytes())
    assert again["_ot_trials"]["a"].params == first["params"]
