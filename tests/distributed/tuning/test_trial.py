"""What a trial is given, and that every end is decided once: one table for Optuna, MLflow and the log."""

import json
import time
from typing import Any

import pytest

from ossnet.config import Config
from ossnet.distributed.tuning.monitor import TrialMonitor
from ossnet.distributed.tuning.trial import TrialEnd, TrialFacts, TrialSpec, decide_outcome
from ossnet.metric_names import CASE_MEDIAN, CUT_SHORT, ERROR, FAULTY_NODE, FINAL, MEMORY, OUT_OF_MEMORY
from ossnet.planning.allocation import allocate
from ossnet.planning.study_time import StudyTime

SMALL, LARGE, SLOW = {MEMORY: 0.5}, {MEMORY: 1.5}, {CASE_MEDIAN: 3.0}
CASES: list[tuple[dict[str, Any], TrialEnd | None, str, dict[str, str]]] = [
    ({}, None, "", {}),
    ({"metrics": SMALL}, None, "", {}),
    ({"result": {FINAL: 1.0}, "metrics": SMALL}, None, "", {}),  # Ray Tune has not ended it yet
    ({"expected_gib": 2.0, "limit_gib": 2.0}, None, "", {}),
    (
        {"expected_gib": 2.1, "limit_gib": 2.0},
        TrialEnd.INFEASIBLE_PREDICTED,
        "KILLED",
        {"stop_reason": "infeasible", "infeasible": "predicted"},
    ),
    ({"inference_gib": 2.0, "inference_budget_gib": 2.0}, None, "", {}),
    (
        {"inference_gib": 2.1, "inference_budget_gib": 2.0},
        TrialEnd.INFERENCE_PREDICTED,
        "KILLED",
        {"stop_reason": "infeasible", "infeasible": "predicted for inference"},
    ),
    (  # training comes first
        {"expected_gib": 2.1, "limit_gib": 2.0, "inference_gib": 2.1, "inference_budget_gib": 2.0},
        TrialEnd.INFEASIBLE_PREDICTED,
        "KILLED",
        {"stop_reason": "infeasible", "infeasible": "predicted"},
    ),
    ({"metrics": SLOW, "seconds_per_case": 3.0}, None, "", {}),
    (
        {"metrics": SLOW, "seconds_per_case": 2.9},
        TrialEnd.TOO_SLOW,
        "KILLED",
        {"stop_reason": "infeasible", "infeasible": "seconds a case"},
    ),
    (
        {"metrics": SLOW, "seconds_per_case": 2.9, "result": {FINAL: 1.0}, "ended": True},
        TrialEnd.TOO_SLOW,
        "KILLED",
        {"stop_reason": "infeasible", "infeasible": "seconds a case"},
    ),
    (
        {"metrics": SLOW | LARGE, "seconds_per_case": 2.9},
        TrialEnd.INFEASIBLE_MEASURED,
        "KILLED",
        {"stop_reason": "infeasible", "infeasible": "measured"},
    ),
    (
        {"metrics": LARGE},
        TrialEnd.INFEASIBLE_MEASURED,
        "KILLED",
        {"stop_reason": "infeasible", "infeasible": "measured"},
    ),
    (
        {"metrics": LARGE, "result": {FINAL: 1.0}, "ended": True},
        TrialEnd.INFEASIBLE_MEASURED,
        "KILLED",
        {"stop_reason": "infeasible", "infeasible": "measured"},
    ),
    (
        {"metrics": LARGE, "budget_gib": None, "result": {FINAL: 1.0}, "ended": True},
        TrialEnd.FINISHED,
        "FINISHED",
        {},
    ),
    ({"metrics": SMALL, "result": {FINAL: 1.0}, "ended": True}, TrialEnd.FINISHED, "FINISHED", {}),
    (
        {"metrics": SMALL, "result": {FINAL: 0.0}, "ended": True},
        TrialEnd.STOPPED_EARLY,
        "KILLED",
        {"stop_reason": "early_stopped"},
    ),
    (
        {"result": {ERROR: "too large; shrink it", OUT_OF_MEMORY: 4.0}, "ended": True},
        TrialEnd.OUT_OF_MEMORY,
        "KILLED",
        {"stop_reason": "infeasible", "infeasible": "out of memory", "error": "too large; shrink it"},
    ),
    (
        {"ended": True, "lost": True, "killed_for_memory": True},
        TrialEnd.HOST_MEMORY,
        "KILLED",
        {
            "stop_reason": "infeasible",
            "infeasible": "out of host memory",
            "error": "its process was lost too often",
        },
    ),
    (  # the study's end cut it short; it validated and saved
        {"ended": True, "result": {FINAL: 1.0, CUT_SHORT: 1.0}, "metrics": SMALL},
        TrialEnd.TIME_LIMIT,
        "KILLED",
        {"stop_reason": "time limit"},
    ),
    (
        {"ended": True, "result": {FINAL: 1.0, CUT_SHORT: 1.0}, "metrics": LARGE},
        TrialEnd.INFEASIBLE_MEASURED,
        "KILLED",
        {"stop_reason": "infeasible", "infeasible": "measured"},
    ),
    (  # not even one step fits its time
        {"ended": True, "result": {ERROR: "too slow", CUT_SHORT: 1.0}},
        TrialEnd.TIME_LIMIT,
        "KILLED",
        {"stop_reason": "time limit", "error": "too slow"},
    ),
    (  # killed once, and then it came to its end
        {"ended": True, "killed_for_memory": True, "result": {FINAL: 1.0}},
        TrialEnd.FINISHED,
        "FINISHED",
        {},
    ),
    ({"ended": True, "lost": True}, TrialEnd.FAILED, "FAILED", {"error": "its process was lost too often"}),
    (
        {"result": {ERROR: "the loss is nan"}, "ended": True},
        TrialEnd.FAILED,
        "FAILED",
        {"error": "the loss is nan"},
    ),
    (  # it has not to answer for it: it starts again
        {"result": {ERROR: "the store is gone", FAULTY_NODE: "0123"}, "ended": True, "metrics": SMALL},
        TrialEnd.NODE_FAILURE,
        "KILLED",
        {"stop_reason": "node failure", "error": "the store is gone"},
    ),
    ({"ended": True, "cut_off": True}, TrialEnd.INTERRUPTED, "KILLED", {"stop_reason": "interrupted"}),
    (
        {"ended": True, "cut_off": True, "time_is_up": True, "metrics": SMALL},
        TrialEnd.TIME_LIMIT,
        "KILLED",
        {"stop_reason": "time limit"},
    ),
]


@pytest.mark.parametrize(("facts", "end", "status", "tags"), CASES)
def test_every_end(facts: dict[str, Any], end: TrialEnd | None, status: str, tags: dict[str, str]) -> None:
    outcome = decide_outcome(TrialFacts(**{"budget_gib": 1.0} | facts))
    if end is None:
        assert outcome is None
        return
    assert outcome is not None
    assert (outcome.end, outcome.status, outcome.tags()) == (end, status, tags)


def test_no_end_is_missing_from_the_table() -> None:
    assert {end for _, end, _, _ in CASES} == {None, *TrialEnd}


def test_out_of_memory_counts_as_the_whole_device() -> None:
    facts = TrialFacts(result={ERROR: "e", OUT_OF_MEMORY: 4.0}, metrics=SMALL, ended=True)
    outcome = decide_outcome(facts)
    assert outcome is not None
    assert outcome.metrics == {MEMORY: 4.0}
    assert facts.metrics == SMALL


def test_the_first_decision_stays() -> None:
    over = StudyTime(deadline=time.time(), allocation=allocate(100.0, slots=1), timed=True)
    monitor = TrialMonitor(budget_gib=1.0, time_limit=over)
    assert not monitor.can_start
    assert not monitor.must_stop("a", SMALL)
    assert monitor.must_stop("a", LARGE)
    assert monitor.end("b", {FINAL: 1.0} | SMALL).end is TrialEnd.FINISHED
    assert monitor.end("b", {}, cut_off=True).end is TrialEnd.FINISHED
    assert monitor.end("b", {}, lost=True).metrics == SMALL
    assert monitor.end("c", {}, cut_off=True).end is TrialEnd.TIME_LIMIT
    assert monitor.cut_off(SMALL).end is TrialEnd.TIME_LIMIT
    assert TrialMonitor(budget_gib=1.0).cut_off(LARGE).end is TrialEnd.INFEASIBLE_MEASURED


def test_a_case_counts_as_fast_as_it_ever_was() -> None:
    """Another job on the machine makes a later validation slower, and the network no worse."""
    monitor = TrialMonitor(seconds_per_case=2.0)
    assert not monitor.must_stop("a", {CASE_MEDIAN: 1.5})
    monitor.update("a", {CASE_MEDIAN: 1.5})
    assert not monitor.must_stop("a", {CASE_MEDIAN: 2.5})
    outcome = monitor.end("a", {CASE_MEDIAN: 2.5, FINAL: 1.0})
    assert (outcome.end, outcome.metrics[CASE_MEDIAN]) == (TrialEnd.FINISHED, 1.5)
    assert monitor.must_stop("b", {CASE_MEDIAN: 2.5})
    assert monitor.end("b", {CASE_MEDIAN: 2.5}).end is TrialEnd.TOO_SLOW


def test_a_spec_survives_ray_tune_and_is_parsed_once(tiny: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = TrialSpec(
        tiny.to_json(),
        run="r",
        number=7,
        seed=1,
        seeds=2,
        params={"width": 16},
        search_params=("model.decoder_width",),
        predicted_gib=0.5,
        avoid=("0123", "4567"),
    )
    parsed = 0
    from_json = Config.from_json

    def count(text: Any) -> Config:
        nonlocal parsed
        parsed += 1
        return from_json(text)

    monkeypatch.setattr(Config, "from_json", count)
    copy = TrialSpec.from_dict(json.loads(json.dumps(spec.to_dict())) | {"added by Ray": 1})
    assert copy == spec
    assert copy.title == "007 oss-net-c seed 1"
    assert copy.config == tiny
    assert parsed == 1
