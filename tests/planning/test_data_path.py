"""How volumes reach the device: what is measured, what is chosen from it, and that a run keeps to it."""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from cuda_stand_in import CUDA, stand_in_for_cuda
from hypothesis import given
from hypothesis import strategies as st

from ossnet import training_run
from ossnet.config import Config
from ossnet.data import Store
from ossnet.data.store.case_file import StoredCase
from ossnet.memory.peak import GIB
from ossnet.planning.data_path import (
    MOST_STEPS,
    DataPath,
    InputRates,
    choose_data_path,
    measure_rates,
)
from ossnet.sampling.batch import Batch
from ossnet.training import TrainingConfig
from ossnet.training_run import run_batch_maker, run_order, run_training

AUTO = TrainingConfig()
SECONDS = st.floats(0.001, 0.5)


def choose(host_s: float, step_s: float, training: TrainingConfig = AUTO, **sizes: Any) -> DataPath:
    sizes = {"volumes": 8, "store_bytes": 26 * GIB, "free_bytes": 12.0 * GIB, **sizes}
    return choose_data_path(InputRates(host_s, step_s), training, **sizes)


@pytest.mark.parametrize(
    ("step_s", "free", "expected"),
    [
        (0.25, 12, (1, 0.0)),  # an L4's: read in time
        (0.06, 12, (4, 0.0)),  # an A100's
        (0.06, 60, (1, 26.0)),
        (0.001, 12, (MOST_STEPS, 0.0)),
    ],
)
def test_volumes_stay_where_they_fit_else_they_are_used_again(
    step_s: float, free: float, expected: tuple[int, float]
) -> None:
    path = choose(0.022, step_s, free_bytes=free * GIB)
    assert (path.steps_per_batch, path.device_cache_gib) == expected
    assert "a batch is read in 0.176 s" in str(path)


@given(SECONDS, SECONDS, st.integers(1, 16), st.floats(0, 50))
def test_a_device_waits_less_than_a_twentieth_or_it_is_said(
    host_s: float, step_s: float, volumes: int, free: float
) -> None:
    path = choose(host_s, step_s, volumes=volumes, free_bytes=free * GIB)
    if path.device_cache_gib:
        assert 26 <= path.device_cache_gib <= free + 0.01
        assert path.steps_per_batch == 1
    else:
        reading, working = volumes * host_s, path.steps_per_batch * step_s
        assert reading <= working or path.steps_per_batch == MOST_STEPS
        assert (max(reading - working, 0) / max(reading, working) < 0.05) or "will wait" in path.reason


@given(SECONDS, SECONDS, st.integers(1, 9), st.floats(0, 50))
def test_given_values_stay(host_s: float, step_s: float, steps: int, cache: float) -> None:
    given_steps = choose(host_s, step_s, replace(AUTO, steps_per_batch=steps))
    assert given_steps.steps_per_batch == steps
    given_cache = choose(host_s, step_s, replace(AUTO, device_cache_gib=cache))
    assert given_cache.device_cache_gib == cache
    if cache >= 26:
        assert given_cache.steps_per_batch == 1


def test_both_sides_are_measured(phantom_store: Path) -> None:
    """Reading and the network are replaced by sleeps, of which two threads take two at a time."""
    store = Store.open(phantom_store)
    config = Config.preset("oss-net-c", store).replace({"training.batch_size": 2, "sampling.points": 8})
    config = config.resolve_for(store)

    def read(case: str) -> StoredCase:
        time.sleep(0.2)
        return store.case(case)

    def step(_: Batch) -> None:
        time.sleep(0.1)

    rates = measure_rates(
        run_order(store, config.training),
        read,
        run_batch_maker(config, store.task),
        step,
        threads=2,
        device=torch.device("cpu"),
    )
    assert 0.05 < rates.host_s < 0.2
    assert 0.1 <= rates.step_s < 0.2


class Losses:
    """Keeps the losses and the last checkpoint's configuration; stops there where it has a folder."""

    def __init__(self, folder: Path | None = None) -> None:
        self.losses: list[float] = []
        self._folder = folder

    def step(self, metrics: dict[str, float], step: int) -> None:
        """Keep the loss."""
        self.losses.append(metrics["loss/train"])

    def epoch(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        """Keep the first checkpoint and stop, where a folder is given."""
        if self._folder is not None and checkpoint is not None:
            checkpoint.rename(self._folder)
            raise InterruptedError


def train(config: Config, store: Store, reporter: Losses, resume: Path | None = None) -> Mapping[str, Any]:
    values: dict[str, Any] = {}
    with suppress(InterruptedError):
        run_training(config, store, reporter=reporter, device="cpu", resume_from=resume, chosen=values.update)
    return values


def test_a_run_chooses_once_and_trains_as_if_the_values_were_given(
    phantom_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store.open(phantom_store)
    config = Config.preset("oss-net-c", store).replace(
        {
            "model.encoder_channels": [4],
            "model.decoder_width": 16,
            "model.decoder_blocks": 1,
            "sampling.points": 16,
            "training.batch_size": 2,
            "training.epochs": 2,
            "training.validate_every": 2,
            "training.validation_cases": 1,
        }
    )
    on_cpu = Losses()
    nothing = {"training.steps_per_batch": 1, "training.device_cache_gib": 0.0}
    assert train(config, store, on_cpu) == nothing

    monkeypatch.setattr(training_run, "_may_wait", lambda _: True)
    monkeypatch.setattr(training_run, "measure_rates", lambda *_, **__: InputRates(0.05, 0.06))
    monkeypatch.setattr(training_run, "available_memory", lambda _: 0.0)
    expected = {"training.steps_per_batch": 2, "training.device_cache_gib": 0.0}
    whole, first, second = Losses(), Losses(tmp_path / "checkpoint"), Losses()
    with caplog.at_level("INFO"):
        assert train(config, store, whole) == expected
    assert "training.steps_per_batch 2, training.device_cache_gib 0: a batch is read in" in caplog.text
    assert len(whole.losses) == 2 * len(on_cpu.losses)
    given_values = Losses()
    assert train(config.replace(expected), store, given_values) == {}
    assert whole.losses == given_values.losses

    assert train(config, store, first) == expected
    monkeypatch.setattr(training_run, "measure_rates", lambda *_, **__: InputRates(0.05, 0.001))
    assert train(config, store, second, resume=tmp_path / "checkpoint") == expected
    assert first.losses + second.losses == whole.losses


@pytest.mark.parametrize(("needed_gib", "steps"), [(1.0, 1), (33.0, 3), (60.0, 3)])
def test_volumes_stay_within_a_trials_share_of_a_gpu(
    needed_gib: float, steps: int, phantom_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of 80 GB, of which a step takes its predicted peak and the margin."""
    store = Store.open(phantom_store)
    config = Config.preset("oss-net-c", store).replace({"training.batch_size": 2}).resolve_for(store)
    stand_in_for_cuda(monkeypatch)
    monkeypatch.setattr(training_run, "_measure_rates", lambda *_: InputRates(0.05, 0.045))
    network = torch.nn.Identity()
    values = training_run._choose_values(config, store, store.case, network, CUDA, needed_gib)
    assert values["training.steps_per_batch"] == steps
    assert (values["training.device_cache_gib"] > 0) == (steps == 1)


def test_measuring_leaves_the_network_as_it_was(phantom_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the real steps and a device that holds all volumes."""
    store = Store.open(phantom_store)
    config = Config.preset("oss-net-c", store).replace(
        {
            "model.encoder_channels": [4],
            "model.decoder_width": 16,
            "model.decoder_blocks": 1,
            "sampling.points": 16,
            "training.batch_size": 2,
            "training.epochs": 1,
            "training.validation_cases": 1,
        }
    )
    given_values, chosen = Losses(), Losses()
    train(
        config.replace({"training.steps_per_batch": 1, "training.device_cache_gib": 0.0}), store, given_values
    )
    monkeypatch.setattr(training_run, "_may_wait", lambda _: True)
    values = train(config.replace({"training.steps_per_batch": 1}), store, chosen)
    assert values["training.steps_per_batch"] == 1
    assert values["training.device_cache_gib"] >= 0
    assert chosen.losses == given_values.losses
