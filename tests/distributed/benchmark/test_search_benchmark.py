"""How searches are compared with each other."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossnet.distributed.benchmark import search
from ossnet.distributed.benchmark.method import StudyTask
from ossnet.distributed.benchmark.results import (
    SearchBenchmarkResult,
    StudyRow,
    TrialRow,
    Validation,
    draw,
    show,
)
from ossnet.distributed.benchmark.search import SearchBenchmarkConfig
from ossnet.errors import UserError

BUDGET, TIME_S = 1.0, 16.0


@st.composite
def trial_rows(draw: st.DrawFn) -> TrialRow:
    seconds = draw(st.lists(st.floats(0, 2 * TIME_S), max_size=3))
    validations = tuple(Validation(at, draw(st.floats(0, 1)), 2) for at in sorted(seconds))
    return TrialRow("o-net", draw(st.floats(0, 8)), draw(st.none() | st.floats(0.5, 1.5)), "", validations)


def trial(
    memory_gib: float | None, *points: tuple[float, float], cpu_s: float = 2.0, cases: int = 3
) -> TrialRow:
    return TrialRow(
        "o-net", cpu_s, memory_gib, "finished", tuple(Validation(*each, cases) for each in points)
    )


def study(method: str, *trials: TrialRow, seed: int = 0, refused: int = 0) -> StudyRow:
    return StudyRow(method, seed, cpu_s=8.0, search_s=1.0, refused=refused, trials=trials)


def compared(*rows: StudyRow) -> SearchBenchmarkResult:
    return SearchBenchmarkResult(
        "a CPU", {}, "3 cases", 3, "0a1b", "small.py", BUDGET, 1 / 3, TIME_S, "one trial", "", "", rows
    )


def test_only_what_fits_counts_from_when_it_was_validated() -> None:
    row = study(
        "ossnet",
        trial(1.5, (2.0, 0.9)),
        trial(None, (3.0, 0.9)),
        trial(0.5, (3.5, 0.9), cases=1),
        trial(1.0, (4.0, 0.5), (9.0, 0.75)),
        trial(0.5, (12.0, 0.25), (16.0, 0.875)),
    )
    result = compared(row)
    best = {seconds: result.best_by(row, seconds) for seconds in (3.9, 4.0, 8.9, 9.0, 15.9, 16.0)}
    assert best == {3.9: 0.0, 4.0: 0.5, 8.9: 0.5, 9.0: 0.75, 15.9: 0.75, 16.0: 0.875}


def test_a_method_in_numbers() -> None:
    rows = [
        study("random", trial(0.5, (4.0, 0.2), (10.0, 0.6)), trial(2.0, cpu_s=4.0), seed=0),
        study("random", trial(0.5, (4.0, 0.4), (10.0, 0.8)), trial(None), seed=1, refused=3),
        study("random", seed=2),
    ]
    (found,) = compared(*rows).methods()
    assert found.at_half == (0.2, 0.0, 0.4)
    assert found.at_end == (0.6, 0.0, 0.8)
    assert (found.started, found.refused) == (pytest.approx(4 / 3), 1.0)
    assert found.feasible == pytest.approx(2 / 3)  # of those that were measured
    assert found.infeasible_s == pytest.approx(4 / 3)


@given(st.lists(trial_rows()), st.lists(trial_rows()))
def test_more_time_and_more_trials_never_make_it_worse(some: list[TrialRow], more: list[TrialRow]) -> None:
    result = compared()
    few, many = study("ossnet", *some), study("ossnet", *some, *more)
    best = [[result.best_by(row, seconds) for seconds in range(17)] for row in (few, many)]
    assert all(each == sorted(each) for each in best)
    assert all(one <= other for one, other in zip(*best, strict=True))


def test_it_is_written_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = compared(
        study("ossnet", trial(0.75, (2.0, 0.5)), refused=3), study("random", trial(2.0, cpu_s=4.0))
    )
    result.write(tmp_path / "search.json")
    assert SearchBenchmarkResult.read(tmp_path / "search.json") == result
    show(result)
    ours, other = capsys.readouterr().out.splitlines()[1:]
    half = "0.500 (0.500 to 0.500)"
    assert " ".join(ours.split()) == f"ossnet {half} {half} 1.0 100% 8 1 0 (0%) 3.0"
    assert " ".join(other.split()).endswith("1.0 0% 8 1 4 (50%) 0.0")
    assert draw(result).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": 0}, "seeds: expected at least 1"),
        ({"methods": ("ossnet", "smac")}, "methods: expected some of ossnet, .*found smac"),
    ],
)
def test_what_cannot_be_compared_is_rejected(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SearchBenchmarkConfig(space=Path("small.py"), **options)  # type: ignore[arg-type]


def test_a_rival_that_is_not_installed_is_named_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "statsmodels.api", None)  # the first that the rival's module needs
    monkeypatch.delitem(sys.modules, "ossnet.distributed.benchmark.syne_tune_search", raising=False)
    settings = SearchBenchmarkConfig(space=Path("nowhere.py"), methods=("syne-tune",))
    with pytest.raises(UserError, match=r"syne-tune: .*statsmodels.*pip install 'ossnet\[rivals\]'"):
        search.compare(settings, tmp_path / "search.json", data=None, command="", progress=lambda row: None)
    assert not list(tmp_path.iterdir())


def test_a_comparison_goes_on_where_it_was_cut(
    tmp_path: Path, phantom_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = tmp_path / "mine.py"
    space.write_text(
        "def space(trial):\n    return {'model.decoder_width': trial.suggest_int('width', 8, 9)}\n"
    )
    settings = SearchBenchmarkConfig(space=space, methods=("random", "optuna"), seeds=2, budget_gib=9.0)
    ran = list[tuple[str, int]]()

    def run_study(name: str, make: object, task: StudyTask) -> StudyRow:
        if len(ran) == 3:
            ran.clear()
            raise KeyboardInterrupt
        ran.append((name, task.seed))
        assert task.planner.resolve().config.training.seed == task.seed
        return study(name, seed=task.seed)

    monkeypatch.setattr("ossnet.distributed.benchmark.study.run_study", run_study)
    monkeypatch.setattr(search, "_SAMPLES", 1)
    monkeypatch.setattr(search, "_load_libraries", lambda planner: None)
    path = tmp_path / "bench" / "search.json"

    def compare(**changes: object) -> SearchBenchmarkResult:
        changed = replace(settings, **changes)
        return search.compare(changed, path, data=phantom_store, command="", progress=lambda row: None)

    with pytest.raises(KeyboardInterrupt):
        compare()
    assert [(row.method, row.seed) for row in compare().rows] == [
        ("random", 0),
        ("optuna", 0),
        ("random", 1),
        ("optuna", 1),
    ]
    assert ran == [("optuna", 1)]
    with pytest.raises(UserError, match=r"time-per-study: expected 60.0, .*found 90"):
        compare(time_s=90.0)
