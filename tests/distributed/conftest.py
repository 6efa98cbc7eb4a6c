"""A configuration that trains in seconds."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import ray

from ossnet.config import Config
from ossnet.data import Store
from ossnet.planning.configure.fingerprint import Fingerprint
from ossnet.planning.configure.planner import Planner


@pytest.fixture(scope="session")
def store(phantom_store: Path) -> Store:
    return Store.open(phantom_store)


@pytest.fixture(scope="session")
def tiny(store: Store) -> Config:
    """An OSS-Net with batch statistics and patches; two steps an epoch."""
    return Config.preset("oss-net-c", store).replace(
        {
            "model.encoder_channels": (4, 8),
            "model.decoder_width": 16,
            "model.decoder_blocks": 2,
            "model.patch_edge": 3,
            "sampling.points": 64,
            "training.batch_size": 4,
            "training.epochs": 4,
            "training.validate_every": 2,
            "training.validation_cases": 1,
            "optimizer.name": "adamw",
        }
    )


@pytest.fixture(scope="session")
def planner(tiny: Config, store: Store) -> Planner:
    """Keeps `tiny`, but for what a space decides."""
    return Planner.around(tiny, Fingerprint.of(store))


@pytest.fixture
def interrupt() -> Callable[[Callable[[], bool]], None]:
    """Press Ctrl-C once a condition holds, as a person does who has seen enough."""

    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 300
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)

    return lambda condition: threading.Thread(target=wait, args=(condition,), daemon=True).start()


@pytest.fixture
def all_cpus_free() -> Callable[[], None]:
    """Wait until nothing runs on the cluster any more."""

    def wait() -> None:
        deadline = time.monotonic() + 30
        while ray.available_resources().get("CPU") != ray.cluster_resources()["CPU"]:
            assert time.monotonic() < deadline, "something still holds CPUs"
            time.sleep(0.2)

    return wait
