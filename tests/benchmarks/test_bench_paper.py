"""How trained networks are compared: what is trained on, what follows from the rows, what is kept."""

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ossnet.benchmarks import PaperBenchmarkConfig
from ossnet.benchmarks.paper.measure import measure_paper, split_parts
from ossnet.benchmarks.paper.output import draw, show
from ossnet.benchmarks.paper.published import paper_dataset
from ossnet.benchmarks.paper.results import CaseRow, PaperResult, RunKey, RunRow
from ossnet.benchmarks.paper.run import Runner, without_others
from ossnet.commands.bench import PaperOptions
from ossnet.config import Config
from ossnet.data import Store
from ossnet.errors import UserError
from ossnet.evaluation.run import evaluate
from ossnet.inference import Predictor
from ossnet.planning.inference import predict_inference

ROOT = Path(__file__).parents[2]


def case(name: str, dice: float) -> CaseRow:
    return CaseRow(name, dice, dice / 2, 3.0, dice, 0.5, {"tumour": dice})


def run(network: str, *dices: float, seed: int = 0, fold: int | None = None, **fields: Any) -> RunRow:
    first = 0 if fold is None else 10 * fold
    cases = tuple(case(f"case{first + place}", dice) for place, dice in enumerate(dices))
    values: dict[str, Any] = {"training_gib": 0.25, "training_s": 8.0, "steps": 4, "cases": cases}
    return RunRow(RunKey(network, seed, fold), "--model", 1_500_000, 0.25, 0.125, **values | fields)


def compared(*rows: RunRow, **fields: Any) -> PaperResult:
    values: dict[str, Any] = {"folds": None, "published": None, "time_s": 8.0, "command": "ossnet bench"}
    return PaperResult(
        device="cpu",
        processor="a CPU",
        threads=1,
        versions={},
        commit=None,
        data="3 cases",
        fingerprint="0a1b",
        nsd_tolerance_mm=1.0,
        statistic="",
        rows=rows,
        **values | fields,
    )


def test_a_network_in_numbers_is_the_mean_over_cases_of_the_mean_over_seeds() -> None:
    rows = run("unet-3d", 0.5, 0.75), run("unet-3d", 0.75, 1.0, seed=1, training_gib=0.5)
    (found,) = compared(*rows, run("unet-3d", seed=2, cases=(), error="too short")).networks()
    assert (found.runs, found.dice, found.lowest, found.highest) == (2, 0.75, 0.625, 0.875)
    assert (found.measures["iou"].value, found.measures["hd95_mm"].value) == (0.375, 3.0)
    assert (found.training_gib, found.seconds, found.training_s, found.steps) == (0.5, 0.5, 8.0, 4.0)
    interval = found.measures["dice"].interval  # of the two cases' means over seeds
    assert 0.625 <= interval.low < 0.75 < interval.high <= 0.875


def test_folds_give_each_case_once() -> None:
    rows = run("unet-3d", 0.5, 0.7, fold=0), run("unet-3d", 0.9, fold=1)
    (found,) = compared(*rows, folds=2).networks()
    assert found.dice == pytest.approx(0.7)  # not 0.75, the mean over folds
    assert (found.lowest, found.highest) == (pytest.approx(0.6), 0.9)


def test_two_networks_are_compared_on_the_runs_that_both_have() -> None:
    worse, better = (run(name, *dices) for name, dices in (("o-net", (0.5, 0.5)), ("unet-3d", (0.6, 0.8))))
    ahead = run("o-net", 1.0, 1.0, seed=1)  # a lucky seed that the other has not had yet
    ((first, second, difference),) = compared(worse, better, ahead).pairs()
    assert (first, second) == ("o-net", "unet-3d")
    assert difference.mean == pytest.approx(-0.2)
    assert (difference.cases, difference.better, difference.worse) == (2, 0, 2)
    assert compared(worse, run("unet-3d", 0.5, seed=1)).pairs() == []


@settings(max_examples=15)
@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=4))
def test_equal_networks_do_not_differ(seeds: list[list[float]]) -> None:
    rows = [run(name, *dices, seed=seed) for name in ("o-net", "unet-3d") for seed, dices in enumerate(seeds)]
    result = compared(*rows)
    ((_, _, difference),) = result.pairs()
    assert (difference.mean, difference.p_value) == (0, 1)
    for network in result.networks():
        assert network.dice == pytest.approx(fmean(map(fmean, seeds)))
        assert network.lowest <= network.dice + 1e-12 <= network.highest + 2e-12


def test_it_is_written_shown_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = run("oss-net-c", 0.5, 0.5), run("unet-3d", 0.75, 0.75), run("o-net", cases=(), error="no memory")
    result = compared(*rows, published="brats")
    result.write(tmp_path / "paper.json")
    assert PaperResult.read(tmp_path / "paper.json") == result
    show(result)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[1].startswith("unet-3d 1 0.7500 [0.750, 0.750] 0.750 to 0.750 0.3750 3.00")
    assert any(line.startswith("unet-3d and oss-net-c +0.2500 [+0.2500, +0.2500] 2 0") for line in lines)
    assert "oss-net-c 0.8842 0.5000 0.7991 0.2500 2.59 0.27 0.39 0.13" in lines
    assert any(line.startswith("oss-net-d 0.8774 - ") for line in lines)
    assert "o-net, seed 0: failed: no memory" in str(result.summary()["failed"])
    assert draw(result).startswith(b"\x89PNG")
    assert draw(compared()).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("source", "layout", "found"),
    [
        ("/data/MICCAI_BraTS2020_TrainingData", "auto", "brats"),
        ("/data/brats20/train", "brats", "brats"),
        ("/data/BraTS2021", "brats", None),
        ("/data/LiTS17", "auto", "lits"),
        ("/data/liver", "lits", "lits"),
        ("/data/splits/hippocampus", "msd", None),
    ],
)
def test_a_store_says_whether_it_is_of_the_papers_data(
    phantom_store: Path, source: str, layout: str, found: str | None
) -> None:
    store = Store.open(phantom_store)
    configuration = {**store.manifest.configuration, "source": source, "layout": layout}
    assert paper_dataset(Store(store.root, replace(store.manifest, configuration=configuration))) == found


def test_folds_are_made_of_the_cases_and_those_of_the_store_are_taken(phantom_store: Path) -> None:
    store = Store.open(phantom_store)
    parts = split_parts(store, 3)
    every = {*store.split("training"), *store.split("validation")}
    assert sorted(each for _, part in parts.values() for each in part) == sorted(every)
    for training, validation in parts.values():
        assert set(training) == every - set(validation)
    assert parts == split_parts(Store.open(phantom_store), 3)
    own = tuple((name,) for name in sorted(every))
    prepared = Store(store.root, replace(store.manifest, folds=own))
    assert split_parts(prepared, len(own))[1] == (tuple(sorted(every - set(own[1]))), own[1])
    assert split_parts(prepared, 3) == parts
    with pytest.raises(UserError, match=r"--folds: expected at most \d+"):
        split_parts(store, len(every) + 1)


def test_a_run_trains_for_its_time_and_is_scored_as_evaluate_does(
    phantom_store: Path, tmp_path: Path
) -> None:
    store, seconds = Store.open(phantom_store), count()
    runner = Runner(store, 60.0, lambda: float(next(seconds)), tmp_path / "networks")
    training, validation = store.split("training"), store.split("validation")
    row = runner.run(RunKey("feature-query-patch", 3, None), training, validation)
    assert not row.error
    assert 1 < row.steps < 30
    assert row.training_gib == pytest.approx(row.predicted_gib, rel=0.05)
    assert "--model feature-query-patch" in row.options
    folder = tmp_path / "networks" / "feature-query-patch-seed3"
    predictor = Predictor.from_checkpoint(folder)
    assert row.parameters == sum(each.numel() for each in predictor.network.parameters())
    assert (
        row.inference_gib
        == predict_inference(Config.from_json(folder / "checkpoint" / "config.json")).allocated_gib
    )
    evaluated = evaluate(predictor, store, split="validation", output=tmp_path / "e")
    assert [each.case for each in row.cases] == list(validation)
    assert row.dice == pytest.approx(evaluated.summary["dice"]["mean"])
    nsd = [each["nsd"]["mean"] for each in evaluated.summary["classes"].values()]
    assert fmean(each.nsd for each in row.cases) == pytest.approx(fmean(nsd))
    with pytest.raises(UserError, match="held out"):
        without_others(store, training).case(validation[0])
    flipped = replace(runner, flips=("R",)).evaluate(row, validation)
    assert replace(flipped, cases=()) == replace(row, cases=())
    assert [each.case for each in flipped.cases] == list(validation)


def test_a_run_without_time_for_a_step_says_why(phantom_store: Path, tmp_path: Path) -> None:
    store, seconds = Store.open(phantom_store), count()
    runner = Runner(store, 3.0, lambda: float(next(seconds)), tmp_path)
    row = runner.run(RunKey("feature-query-patch", 0, None), store.split("training"), ())
    assert "time limit of 3 s" in row.error
    assert row.cases == ()


def test_a_comparison_goes_on_where_it_was_cut_and_repeats_what_failed(
    tmp_path: Path, phantom_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = PaperBenchmarkConfig(models=("o-net", "unet-3d"), time_s=8.0, seeds=2)
    ran = list[str]()

    def run_one(self: Runner, key: RunKey, training: Sequence[str], validation: Sequence[str]) -> RunRow:
        ran.append(str(key))
        if len(ran) == 4:
            raise KeyboardInterrupt
        if len(ran) == 1:
            return run(key.network, seed=key.seed, cases=(), error="no memory")
        return run(key.network, 0.5, seed=key.seed)

    monkeypatch.setattr(Runner, "run", run_one)
    path = tmp_path / "paper.json"

    def measure(**changes: object) -> PaperResult:
        changed, store = replace(options, **changes), Store.open(phantom_store)  # type: ignore[arg-type]
        return measure_paper(changed, store, path, command="it", progress=lambda row: None)

    with pytest.raises(KeyboardInterrupt):
        measure()
    assert ran == ["o-net, seed 0", "unet-3d, seed 0", "o-net, seed 1", "unet-3d, seed 1"]
    kept = json.loads(path.read_text())
    assert [row["error"] for row in kept["rows"]] == ["no memory", "", ""]
    result = measure()
    assert ran[4:] == ["o-net, seed 0", "unet-3d, seed 1"]
    assert not any(row.error for row in result.rows)
    assert [str(row.key) for row in measure(seeds=1).rows] == [str(row.key) for row in result.rows]
    assert len(ran) == 6
    with pytest.raises(UserError, match=r"max-time: expected 8.0, .*found 9"):
        measure(time_s=9.0)
    with pytest.raises(UserError, match=r"folds: expected None, .*found 2"):
        measure(folds=2)
    with pytest.raises(UserError, match=r"flips: expected \(\), .*found \('R',\)"):
        measure(flips=("R",))


def test_other_flips_evaluate_what_was_trained_and_train_the_rest(
    tmp_path: Path, phantom_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = PaperBenchmarkConfig(models=("o-net",), time_s=8.0, seeds=2)
    made = list[str]()

    def train(self: Runner, key: RunKey, training: Sequence[str], validation: Sequence[str]) -> RunRow:
        made.append(f"train {key}")
        self.checkpoint(key).mkdir(parents=True, exist_ok=True)
        return run(key.network, 0.5, seed=key.seed)

    def evaluate_again(self: Runner, row: RunRow, validation: Sequence[str]) -> RunRow:
        made.append(f"evaluate {row.key}")
        return run(row.key.network, 0.75, seed=row.key.seed)

    monkeypatch.setattr(Runner, "run", train)
    monkeypatch.setattr(Runner, "evaluate", evaluate_again)

    def measure(name: str, **changes: Any) -> PaperResult:
        changed, store = replace(options, **changes), Store.open(phantom_store)
        return measure_paper(changed, store, tmp_path / name, command="it", progress=lambda row: None)

    plain = measure("paper.json", seeds=1)
    flipped = measure("paper-flips-R.json", flips=("R",))
    assert made == ["train o-net, seed 0", "evaluate o-net, seed 0", "train o-net, seed 1"]
    assert [row.dice for row in flipped.rows] == [0.75, 0.5]
    assert PaperResult.read(tmp_path / "paper.json") == plain
    measure("paper-long.json", seeds=1, time_s=9.0)
    assert made[3:] == ["train o-net, seed 0"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": 2, "folds": 5}, "--seeds and --folds: expected one of them"),
        ({"data": Path("store"), "phantom": "hard"}, "--data and --phantom: expected one of them"),
        ({"folds": 1}, "folds: expected at least 2"),
        ({"seeds": 0}, "seeds: expected at least 1"),
        ({"models": ("unet",)}, "models: expected a known network, found 'unet'; did you mean 'unet-"),
        ({"models": ("o-net", "o-net")}, "models: expected each network once"),
        ({"max_time": "20"}, "duration '20'"),
    ],
)
def test_what_cannot_be_compared_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        PaperOptions(**options)


def test_the_kept_comparison_is_what_the_readme_says() -> None:
    """As good as a residual-encoder U-Net at a sixth of its memory, and each seed inside the interval."""
    kept = PaperResult.read(ROOT / "docs" / "benchmarks" / "hippocampus-flips.json")
    networks = {each.network: each for each in kept.networks()}
    ours, baseline = networks["feature-query-patch"], networks["residual-encoder-unet"]
    assert (ours.runs, baseline.runs) == (3, 3)
    assert ours.dice >= 0.880
    assert ours.training_gib <= min(0.16, baseline.training_gib / 6)
    ((_, _, difference),) = kept.pairs()
    assert difference.interval.low <= 0 <= difference.interval.high
    interval = ours.measures["dice"].interval
    assert interval.low <= ours.lowest <= ours.highest <= interval.high
