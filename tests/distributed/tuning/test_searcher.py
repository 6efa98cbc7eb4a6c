"""What the Optuna study learns of trials, however they end."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from ossnet.config import Config
from ossnet.data import Store
from ossnet.distributed.cluster.nodes import Hosts
from ossnet.distributed.cluster.resources import TrialPlacement, WorkerResources
from ossnet.distributed.tracking.client import TrackingConfig
from ossnet.distributed.tuning.config import OptimizationConfig
from ossnet.distributed.tuning.monitor import TrialMonitor
from ossnet.distributed.tuning.result import StudyResult, TrialCounts, feasible_fraction
from ossnet.distributed.tuning.search_space import Space
from ossnet.distributed.tuning.searcher import StudySearch
from ossnet.distributed.tuning.storage import SCHEMA, TuningStudy
from ossnet.distributed.tuning.study import StudySpec
from ossnet.distributed.tuning.trial import TrialSpec
from ossnet.errors import UserError
from ossnet.metric_names import ERROR, FAULTY_NODE, MEMORY, OUT_OF_MEMORY
from ossnet.planning import predict
from ossnet.planning.estimator import PeakEstimator

BODY = """
def space(trial):
    width = 2 ** trial.suggest_int("log2_width", 2, 6)
    return {"model.decoder_width": width, "sampling.border_fraction": trial.suggest_float("border", 0, 1)}
"""


def result(epoch: int, dice: float | None, *, final: float = 0.0) -> dict[str, object]:
    validated = {} if dice is None else {"dice/val": dice}
    return {"epoch": float(epoch), "final": final, MEMORY: 0.5, **validated}


@pytest.fixture(scope="module")
def budget(tiny: Config, store: Store) -> float:
    """What a width of 16 needs: 32 and 64 do not fit."""
    return predict(tiny.resolve_for(store)).allocated_gib


Opening = Callable[..., StudySearch]


@pytest.fixture
def opening(tiny: Config, store: Store, tmp_path: Path) -> Opening:
    """Open the study in `tmp_path`, as a new driver does, whatever became of the last one."""
    (tmp_path / "mine.py").write_text(BODY)

    def make(*, trials: int = 20, concurrent: int = 20, **optimization: Any) -> StudySearch:
        spec = StudySpec(
            name="mine",
            space=Space(tmp_path / "mine.py"),
            base=tiny,
            store=store,
            output=tmp_path,
            tracking=TrackingConfig.at(tmp_path, "mine"),
            trials=trials,
            optimization=OptimizationConfig(**optimization),
        )
        return StudySearch(
            spec,
            TuningStudy.open_or_create(spec.database, spec.name, spec.optimization),
            TrialMonitor(budget_gib=spec.optimization.budget_gib),
            placement=TrialPlacement(workers=1, resources=WorkerResources(1), concurrent=concurrent),
            estimator=PeakEstimator(workers=1),
        )

    return make


@pytest.fixture
def search(opening: Opening) -> StudySearch:
    return opening()


def suggestion(search: StudySearch, name: str) -> TrialSpec:
    found = search.suggest(name)
    assert isinstance(found, dict)
    return TrialSpec.from_dict(json.loads(json.dumps(found)))


def stored(search: StudySearch, tmp_path: Path) -> list[optuna.trial.FrozenTrial]:
    """The study as a stranger reads it from its file."""
    study = optuna.load_study(study_name="mine", storage=f"sqlite:///{tmp_path / 'study.db'}")
    assert study.directions[0] == optuna.study.StudyDirection.MAXIMIZE
    return study.trials


def test_a_suggestion_is_a_whole_configuration(search: StudySearch, tiny: Config) -> None:
    found = suggestion(search, "a")
    config = found.config
    assert config.model.decoder_width == 2 ** found.params["log2_width"]
    assert config.sampling.border_fraction == found.params["border"]
    assert config.training == tiny.training
    assert found.search_params == ("model.decoder_width", "sampling.border_fraction")
    assert suggestion(search, "a") == found  # the same trial, requested again


def test_nothing_is_tried_twice(opening: Opening, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def space(trial):\n"
        "    return {'model.decoder_width': trial.suggest_categorical('width', [4, 8, 16])}\n"
    )
    search = opening(trials=9, concurrent=1)
    widths = []
    for name in "abc":
        widths.append(suggestion(search, name).params["width"])
        search.on_trial_complete(name, result(1, 0.5, final=1.0))
    assert sorted(widths) == [4, 8, 16]
    assert search.suggest("d") == StudySearch.FINISHED
    trials = stored(search, tmp_path)
    assert sum(trial.state == TrialState.COMPLETE for trial in trials) == 3
    repeated = [trial for trial in trials if "repeats" in trial.user_attrs]
    assert len(repeated) == len(trials) - 3
    for trial in repeated:
        assert trial.state == TrialState.FAIL
        assert trials[trial.user_attrs["repeats"]].params == trial.params


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
    assert [trial.state for trial in stored(search, tmp_path)] == [TrialState.COMPLETE] * 3
    assert stored(search, tmp_path)[0].intermediate_values == {1: 0.25, 2: 0.5}


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
    states = [trial.state for trial in stored(search, tmp_path)]
    assert states == [TrialState.RUNNING, TrialState.RUNNING, TrialState.COMPLETE]
    resumed = opening(trials=9)
    assert [suggestion(resumed, name) for name in "ab"] == begun[:2]


def test_repeats_are_no_rejections(opening: Opening, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def space(trial):\n    return {'model.decoder_width': trial.suggest_categorical('width', [4, 8])}\n"
    )
    search = opening(trials=5, concurrent=1)
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
    (tmp_path / "mine.py").write_text(f"import optuna\n{HALF}")
    search = opening(trials=12, concurrent=1, sampler=sampler, n_startup_trials=4)
    for name in "abcdefghijkl":
        found = suggestion(search, name)
        assert found.params["width"] <= found.params["limit"]
        search.on_trial_complete(name, result(4, found.params["width"] / 32, final=1.0))
    assert search.suggest("z") == StudySearch.FINISHED
    counts = TrialCounts.of(search.study)
    assert (counts.finished, counts.rejected) == (12, 0)
    assert counts.forbidden > 0
    forbidden = [trial for trial in stored(search, tmp_path) if "forbidden" in trial.user_attrs]
    assert len(forbidden) == counts.forbidden
    assert all(trial.params["width"] > trial.params["limit"] for trial in forbidden)
    assert {trial.state for trial in forbidden} == {TrialState.PRUNED}
    assert {trial.user_attrs["forbidden"] for trial in forbidden} == {"too wide"}


def test_points_to_evaluate_may_be_forbidden_and_all_that_is_allowed(
    opening: Opening, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ossnet.distributed.tuning.searcher.MOST_REDRAWS", 20)
    (tmp_path / "mine.py").write_text(
        "from optuna import TrialPruned\n"
        "POINTS_TO_EVALUATE = [{'rate': 0.5}, {'rate': 0.25}]\n"
        "def space(trial):\n"
        "    if trial.suggest_float('rate', 0, 1) != 0.25: raise TrialPruned\n"
        "    return {'optimizer.learning_rate': 0.25}\n"
    )
    search = opening(trials=3, concurrent=1)
    assert suggestion(search, "a").params == {"rate": 0.25}
    search.on_trial_complete("a", result(4, 0.5, final=1.0))
    with caplog.at_level("INFO"):
        assert search.suggest("b") == StudySearch.FINISHED
    assert "the space forbade 20 suggestions: no further trial starts" in caplog.text
    counts = TrialCounts.of(search.study)
    assert (counts.finished, counts.forbidden) == (1, 21)


def test_nothing_is_allowed(opening: Opening, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ossnet.distributed.tuning.searcher.MOST_REDRAWS", 5)
    (tmp_path / "mine.py").write_text("import optuna\ndef space(trial): raise optuna.TrialPruned\n")
    search = opening(trials=3)
    assert search.suggest("a") == StudySearch.FINISHED
    line = "expected a suggestion that can start, found none: 5 forbidden by the space"
    with pytest.raises(UserError, match=line):
        StudyResult.of(search.study, tmp_path)


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
    (tmp_path / "mine.py").write_text(TUPLES)
    search = opening(trials=6, concurrent=1)
    first = suggestion(search, "a")
    assert first.params == {"channels": "[4, 8, 16]", "blocks": None}
    assert (first.config.model.encoder_channels, first.config.model.decoder_blocks) == ((4, 8, 16), 2)
    search = opening(trials=6, concurrent=1)  # its driver was killed
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
    finished, stopped, lost, failed, cut, unborn = stored(search, tmp_path)
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
    trials = stored(search, tmp_path)
    rejected = [trial for trial in trials if trial.user_attrs.get("end") == "infeasible: predicted"]
    assert rejected
    assert len(trials) == 6 + len(rejected)
    for trial in trials:
        too_large = trial in rejected
        assert (trial.params["log2_width"] > 4) == too_large
        assert (trial.constraints["memory"] > 0) == too_large
        assert trial.state == (TrialState.PRUNED if too_large else TrialState.COMPLETE)


@pytest.mark.parametrize("sampler", ["nsga2", "tpe"])
def test_two_objectives_under_a_budget(opening: Opening, budget: float, tmp_path: Path, sampler: str) -> None:
    """Some trials end early, one has more memory than was predicted, one is given none."""
    objectives = ("dice", "memory")
    search = opening(trials=14, budget_gib=budget, sampler=sampler, objectives=objectives, n_startup_trials=4)
    for number, name in enumerate("abcdefghijklmn"):
        peak = suggestion(search, name).predicted_gib
        if number == 5:
            search.on_trial_complete(name, {ERROR: "out of memory", OUT_OF_MEMORY: 2 * budget})
        elif number == 6:
            search.on_trial_complete(name, result(1, None) | {MEMORY: 1.01 * budget})
        elif number % 3 == 2:
            search.on_trial_complete(name, result(2, 0.25) | {MEMORY: peak})
        else:
            search.on_trial_complete(name, result(4, number / 16, final=1.0) | {MEMORY: peak})
    trials = [
        trial
        for trial in stored(search, tmp_path)
        if trial.user_attrs.get("end") != "infeasible: predicted" and "repeats" not in trial.user_attrs
    ]
    assert len(trials) == 14
    assert trials[5].user_attrs["end"] == "infeasible: out of memory"
    assert trials[5].constraints["memory"] == pytest.approx(budget)
    assert trials[6].user_attrs["end"] == "infeasible: measured"
    early = trials[2::3]
    assert all(
        each.state == TrialState.PRUNED and each.intermediate_values == {2: 0.25}
        for each in early
        if each is not trials[5]
    )
    front = optuna.load_study(study_name="mine", storage=f"sqlite:///{tmp_path / 'study.db'}").best_trials
    assert max(trial.values[0] for trial in front) == 13 / 16


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
    first, second = stored(search, tmp_path)
    assert (first.value, first.intermediate_values) == (0.5, {4: 0.25})
    assert second.state == TrialState.PRUNED


@pytest.mark.slow
def test_a_killed_search_resumes_as_if_nothing_had_happened(
    opening: Opening, budget: float, tmp_path: Path
) -> None:
    """Twelve trials in a row by a search that is left at any time, and by one that never is."""

    def play(search: StudySearch, name: str) -> None:
        found = suggestion(search, name)
        dice = 1 - (found.params["border"] - 0.3) ** 2
        search.on_trial_complete(name, result(4, dice, final=1.0) | {MEMORY: found.predicted_gib})

    search = opening(trials=12, concurrent=1, budget_gib=budget)
    for number in range(12):
        if number in {3, 9}:
            left = suggestion(search, "left")  # and its driver is killed
            search = opening(trials=12, concurrent=1, budget_gib=budget)
            assert suggestion(search, str(number)) == left
        play(search, str(number))
    assert search.suggest("more") == StudySearch.FINISHED
    cut = [(trial.params, trial.state) for trial in stored(search, tmp_path)]
    (tmp_path / "study.db").unlink()
    whole = opening(trials=12, concurrent=1, budget_gib=budget)
    for number in range(12):
        play(whole, str(number))
    assert [(trial.params, trial.state) for trial in stored(whole, tmp_path)] == cut


def test_an_option_that_changed_is_rejected(opening: Opening) -> None:
    study = opening().study
    study.check_settings({"seeds": 1, "model.decoder_width": 16})
    study.check_settings({"seeds": 1, "model.decoder_width": 16})
    with pytest.raises(UserError, match="resumed study, seeds: expected 1, found 2"):
        study.check_settings({"seeds": 2, "model.decoder_width": 16})


def test_comments_and_format_of_a_space_do_not_block_resuming(search: StudySearch) -> None:
    study, helpers = search.study, {"widths.py": "W = [8, 16]\n"}
    study.check_settings({"space": BODY, "space helpers": helpers})
    again = "import math\nimport os\n" + BODY
    study.check_settings({"space": f"# what is searched\n{BODY}", "space helpers": helpers})
    study.check_settings({"space": BODY.replace('"', "'"), "space helpers": {"widths.py": "W=[8,16] # wide"}})
    study.check_settings({"space": BODY.replace("\n", "\r\n"), "space helpers": helpers | {"more.py": ""}})
    with pytest.raises(UserError, match="resumed study, space: expected the space file that it began with"):
        study.check_settings({"space": again, "space helpers": helpers})
    with pytest.raises(
        UserError, match=r"resumed study, space helpers: expected widths\.py as it began with"
    ):
        study.check_settings({"space": BODY, "space helpers": {"widths.py": "W = [8, 32]"}})
    with pytest.raises(UserError, match=r"expected widths\.py as it began with, found another one"):
        study.check_settings({"space": BODY, "space helpers": {}})


@pytest.mark.parametrize(
    ("schema", "found"), [(None, "one without a schema"), (1, "schema 1"), (3, "schema 3")]
)
def test_a_study_of_another_schema_is_rejected(
    opening: Opening, tmp_path: Path, schema: int | None, found: str
) -> None:
    search = opening()
    search.suggest("a")
    search.study.set_user_attr(SCHEMA, schema)
    line = (
        rf"study\.db: expected a study of schema 2, found {found}; start the study anew with another --output"
    )
    with pytest.raises(UserError, match=line):
        opening()
    with pytest.raises(UserError, match=line):
        TuningStudy.load(tmp_path / "study.db")
