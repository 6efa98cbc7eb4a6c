"""Runs on a store with cases that cannot be read: they end with one line, or go on without them, in order."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, multiprocessing

from ossnet.config import Config
from ossnet.data import Store
from ossnet.errors import CaseError, UserError
from ossnet.training_run import run_training

SMALL: dict[str, Any] = {
    "model.encoder_channels": [4, 8],
    "model.decoder_width": 16,
    "model.decoder_blocks": 2,
    "model.latent_grid": [2, 2, 2],
    "model.patch_edge": 3,
    "sampling.points": 64,
    "training.batch_size": 4,
    "training.epochs": 3,
    "training.validate_every": 3,
    "data.strict": False,
    "data.max_lost": 0.5,
}


class Losses:
    """Keeps the loss of each step, and does something after each epoch."""

    def __init__(self, after_epoch: Callable[[int], None] = lambda epoch: None) -> None:
        self.steps: list[float] = []
        self._after_epoch = after_epoch

    def step(self, metrics: dict[str, float], step: int) -> None:
        self.steps.append(metrics["loss/train"])

    def epoch(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        self._after_epoch(int(metrics["epoch"]))


@pytest.fixture
def root(phantom_store: Path, tmp_path: Path) -> Path:
    """A store to be damaged."""
    return shutil.copytree(phantom_store, tmp_path / "store")


def file_of(root: Path, case: str) -> Path:
    return root / Store.open(root).manifest.cases[case].file


def train(
    root: Path, changes: Mapping[str, Any] = {}, reporter: Losses | None = None
) -> tuple[list[float], dict[str, float], dict[str, str]]:
    """The loss of each step, the last metrics, and what was left out."""
    store, reporter, lost = Store.open(root), reporter or Losses(), dict[str, str]()
    metrics = run_training(
        Config.preset("oss-net-d", store).replace(SMALL | dict(changes)),
        store,
        reporter=reporter,
        device="cpu",
        predicted_gib=0.1,
        report_lost=lambda case, why: lost.update({case: why}),
    )
    return reporter.steps, metrics, lost


def test_a_strict_run_ends_with_a_line_that_names_the_case_and_the_node(root):
    case = Store.open(root).split("training")[0]
    file_of(root, case).unlink()
    with pytest.raises(CaseError) as error:
        train(root, {"data.strict": True})
    assert "\n" not in str(error.value)
    assert f"case {case}, node " in str(error.value)


def test_a_run_goes_on_without_them_and_says_which(root):
    store = Store.open(root)
    gone, cut = store.split("training")[0], store.split("validation")[0]
    file_of(root, gone).unlink()
    file_of(root, cut).write_bytes(file_of(root, cut).read_bytes()[:1000])
    losses, metrics, lost = train(root)
    assert len(losses) == 6
    assert metrics["data/lost_cases"] == 2
    assert sorted(lost) == sorted([gone, cut])
    assert all(f"case {case}, node " in why and "\n" not in why for case, why in lost.items())
    assert 0 <= metrics["dice/val"] <= 1


def test_nothing_is_lost_of_a_whole_store(root):
    losses, metrics, lost = train(root)
    strict, strict_metrics, _ = train(root, {"data.strict": True})
    assert losses == strict
    assert metrics["data/lost_cases"] == 0
    assert not lost
    assert "data/lost_cases" not in strict_metrics


def test_runs_on_a_damaged_store_are_equal_whatever_threads_read(root):
    whole, _, _ = train(root)
    file_of(root, Store.open(root).split("training")[2]).unlink()
    once, _, _ = train(root)
    assert train(root, {"training.loader_threads": 3})[0] == once
    assert once != whole


def test_a_case_that_vanishes_during_the_run_is_left_out_from_then_on(root):
    whole, _, _ = train(root)
    gone = file_of(root, Store.open(root).split("training")[1])
    taken = Losses(lambda epoch: gone.unlink(missing_ok=True))
    losses, metrics, lost = train(root, {"training.epochs": 6}, taken)
    assert losses[:2] == whole[:2]  # the first epoch
    assert len(losses) == 12
    assert metrics["data/lost_cases"] == len(lost) == 1


def test_a_run_that_loses_too_many_ends(root):
    for case in Store.open(root).split("training")[:2]:
        file_of(root, case).unlink()
    with pytest.raises(UserError, match=r"at most 10% of the 8 training cases left out, found 1 that cannot"):
        train(root, {"data.max_lost": 0.1})


def _rank(rank: int, folder: Path, root: Path, strict: bool) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=2)
    try:
        losses, metrics, lost = train(root, {"data.strict": strict})
        found = [losses, metrics["data/lost_cases"], lost]
    except UserError as error:
        found = [str(error)]
    (folder / f"{rank}.json").write_text(json.dumps(found))
    distributed.barrier()  # neither leaves while the other still talks to it
    distributed.destroy_process_group()


def test_two_ranks_go_on_as_one(root, tmp_path):
    lost_here = Store.open(root).split("training")[0]
    file_of(root, lost_here).unlink()
    alone, _, _ = train(root)
    multiprocessing.spawn(_rank, args=(tmp_path, root, False), nprocs=2)
    (losses, count, lost), (none, other_count, unreported) = (
        json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)
    )
    assert losses == pytest.approx(alone, abs=1e-4)
    assert (count, other_count) == (1, 1)
    assert list(lost) == [lost_here]
    assert (none, unreported) == ([], {})


def test_a_strict_run_of_two_ranks_ends_on_both_with_the_line_of_one(root, tmp_path):
    case = Store.open(root).split("training")[0]
    file_of(root, case).unlink()
    multiprocessing.spawn(_rank, args=(tmp_path, root, True), nprocs=2)
    (first,), (second,) = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first == second
    assert f"case {case}, node " in first
