"""The recipe's searcher on a space that forbids some of its points."""

from pathlib import Path

import pytest
from ray.tune.search import Searcher

from ossnet.distributed.benchmark.redrawing_search import RedrawingSearch
from ossnet.distributed.tuning.search_space import Space


def search(folder: Path, condition: str) -> RedrawingSearch:
    (folder / "mine.py").write_text(
        "import optuna\n"
        "def space(trial):\n"
        "    width = trial.suggest_int('width', 1, 100)\n"
        f"    if {condition}: raise optuna.TrialPruned('too wide')\n"
        "    return {'model.decoder_width': width}\n"
    )
    return RedrawingSearch(Space(folder / "mine.py"), metric="dice", mode="max", seed=1)


@pytest.mark.parametrize(
    ("condition", "allowed"),
    [("width > 50", range(1, 51)), ("width % 4", range(4, 101, 4)), ("width != 7", [7])],
)
def test_only_what_the_space_allows_is_tried(condition: str, allowed: list[int], tmp_path: Path) -> None:
    searcher = search(tmp_path, condition)
    for name in "abcdef":
        suggested = searcher.suggest(name)
        assert isinstance(suggested, dict)
        assert suggested["model.decoder_width"] in allowed
        assert searcher.suggest(name) == suggested
        searcher.on_trial_complete(name, {"dice": 1 / suggested["width"]})


def test_a_space_that_forbids_everything_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ossnet.distributed.benchmark.redrawing_search.MOST_REDRAWS", 9)
    assert search(tmp_path, "True").suggest("a") == Searcher.FINISHED
