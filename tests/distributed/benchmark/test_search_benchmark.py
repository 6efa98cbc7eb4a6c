"""How searches are compared with each other."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossnet.distributed.benchmark.results import (
    BASELINE,
    CANDIDATE,
    SearchBenchmarkResult,
    SearchRow,
    TrialRow,
    draw,
    show,
)
from ossnet.distributed.benchmark.search import SearchBenchmarkConfig
from ossnet.errors import UserError

BUDGET = 1.0
DICE = st.none() | st.floats(0, 1)
SECONDS = st.floats(0.125, 8)


@st.composite
def trial_rows(draw: st.DrawFn) -> TrialRow:
    spent = draw(SECONDS)
    first = draw(st.floats(0, spent))
    return TrialRow(draw(DICE), draw(st.none() | st.floats(0.5, 1.5)), spent, first)


def compared(ours: list[TrialRow], recipe: list[TrialRow]) -> SearchBenchmarkResult:
    rows = (SearchRow(CANDIDATE, 0, 3, tuple(ours)), SearchRow(BASELINE, 0, 0, tuple(recipe)))
    return SearchBenchmarkResult("a CPU", {}, "small.py", BUDGET, 1 / 3, 2, "", "", rows)


def test_only_what_fits_counts_and_only_until_the_shorter_study_ends() -> None:
    ours = [TrialRow(0.5, 0.75, 2.0, 1.0), TrialRow(0.75, 1.0, 2.0, 1.0), TrialRow(0.875, 1.0, 8.0, 1.0)]
    recipe = [TrialRow(0.9, 1.5, 4.0, 1.0), TrialRow(0.25, 0.5, 2.0, 1.0)]
    result = compared(ours, recipe)
    assert result.curve(result.rows[0]) == [(2.0, 0.5), (4.0, 0.75), (12.0, 0.875)]
    assert result.curve(result.rows[1]) == [(4.0, None), (6.0, 0.25)]
    whole, capped = result.comparisons()
    assert (whole.cpu_s, whole.candidate_dice, whole.baseline_dice) == (6.0, 0.75, 0.25)
    assert (capped.cpu_s, capped.candidate_dice, capped.baseline_dice) == (3.0, 0.5, 0.25)


@given(st.lists(trial_rows(), min_size=1), st.lists(trial_rows(), min_size=1))
def test_a_baseline_whose_large_trials_end_at_once_is_never_worse_off(
    ours: list[TrialRow], recipe: list[TrialRow]
) -> None:
    result = compared(ours, recipe)
    for row in result.rows:
        best = [dice for _, dice in result.curve(row) if dice is not None]
        assert best == sorted(best)
    whole = result.curve(result.rows[1])
    capped = result.curve(result.rows[1], capped=True)
    assert [dice for _, dice in whole] == [dice for _, dice in capped]
    assert all(short <= long for (short, _), (long, _) in zip(capped, whole, strict=True))


def test_it_is_written_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = compared([TrialRow(0.5, 0.75, 2.0, 1.0)], [TrialRow(None, None, 1.0, 1.0)])
    result.write(tmp_path / "search.json")
    assert SearchBenchmarkResult.read(tmp_path / "search.json") == result
    show(result)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["ossnet", "0", "1", "1", "100%", "3", "2", "0.500"] in lines
    assert ["recipe", "0", "1", "0", "0%", "0", "1", "none"] in lines
    assert draw(result).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trials": 0}, "trials: expected at least 1"),
        ({"feasible_fraction": 1.0}, "feasible-fraction: expected a fraction between"),
    ],
)
def test_what_cannot_be_compared_is_rejected(options: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SearchBenchmarkConfig(space=Path("small.py"), **options)  # type: ignore[arg-type]
