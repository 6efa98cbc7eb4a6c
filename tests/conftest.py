"""What every test shares: an environment of its own, and the scans that may lie next to the checkout."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import settings
from reported_faults import KINDS

from ossnet import plugins
from ossnet.data import PrepareConfig, write_phantom
from ossnet.data.prepare.build import finalize, make_case
from ossnet.data.prepare.plan import make_plan
from ossnet.data.store.case_file import write_case
from ossnet.output import progress

if TYPE_CHECKING:
    from s3_server import S3Server

ROOT = Path(__file__).parents[1]
pytest_plugins = ["autoscaling_record", "chaos_record"]

# Set before anything imports ray, mlflow or matplotlib, and inherited by the processes that tests start.
os.environ.update(
    MPLBACKEND="Agg",
    RAY_AUTH_MODE="disabled",  # tests of authentication turn it on themselves
    RAY_TRAIN_HEALTH_CHECK_INTERVAL_S="0.2",
    RAY_USAGE_STATS_ENABLED="0",
    RAY_worker_niceness="0",  # or the tests beside take the CPUs of those that wait for Ray
)
for name in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
    os.environ.pop(name, None)

# Jobs that run in the process of the tests are no young ones, which say at once what they do.
progress._LOADED_S = float("-inf")

# A busy machine is no failure, and a failure must come back on the next run.
settings.register_profile("ossnet", deadline=None, derandomize=True)
settings.load_profile("ossnet")


# What imports ray is left out where there is none, as on a machine that only checks its GPU.
collect_ignore = [] if find_spec("ray") else ["cluster", "commands", "distributed", "e2e"]


# Started first, so that with several processes none is left alone with a long file at the end.
_LONGEST = ("e2e", "distributed", "planning", "test_training_run.py", "benchmarks", "models")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _position(item.path))
    reported = {f"tests/{test}" for kind in KINDS.values() for test in kind.tests()}
    for item in items:
        if item.nodeid.partition("[")[0] in reported:
            item.add_marker("reported")
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip("no CUDA device"))


def _position(file: Path) -> int:
    folder = file.relative_to(ROOT / "tests").parts[0] if file.is_relative_to(ROOT / "tests") else ""
    return _LONGEST.index(folder) if folder in _LONGEST else len(_LONGEST)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real scans, fixtures and schemas next to the checkout; skips where there is none."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("no folder `shared` next to the checkout")
    return folder


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """One embedded Ray for all tests of a process that need one; jobs that run in the process join it."""
    from ossnet.distributed.cluster.connection import connect

    with connect():
        yield


@pytest.fixture(scope="session")
def empty_mlflow_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a store of runs without any, as the first job of a folder makes it."""
    from ossnet.distributed.tracking.client import TrackingConfig
    from ossnet.distributed.tracking.store import open_client

    folder = tmp_path_factory.mktemp("mlflow")
    open_client(TrackingConfig.at(folder, "any").uri)
    return folder / "mlflow.db"


@pytest.fixture
def mlflow_store(empty_mlflow_store: Path, tmp_path: Path) -> Path:
    """A copy of an empty store of runs in `tmp_path`: MLflow takes seconds to make one."""
    return Path(shutil.copy(empty_mlflow_store, tmp_path))


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator["S3Server"]:
    """A server of S3 on loopback, which this process and those that it starts know."""
    from s3_server import s3_server

    with s3_server(tmp_path_factory.mktemp("s3")) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield server


@pytest.fixture(scope="session")
def phantom_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of ten small phantom cases, eight of them for training; made without Ray. Read only."""
    folder = tmp_path_factory.mktemp("phantom")
    source = write_phantom(folder / "source", cases=10, shape=(28, 26, 22), seed=1)
    plan = make_plan(PrepareConfig(source, folder / "store"))
    for case in plan.cases:
        plan.path(case).parent.mkdir(parents=True, exist_ok=True)
        write_case(plan.path(case), make_case(case, plan.recipe))
    finalize(plan, {})
    return plan.output


@pytest.fixture(scope="session")
def phantom_checkpoint(phantom_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small, untrained network for the phantom store, in a folder of a run. Read only."""
    from ossnet.config import Config
    from ossnet.data import Store
    from ossnet.models import network_from_config
    from ossnet.training.checkpoint import save_checkpoint

    store = Store.open(phantom_store)
    config = Config.preset("oss-net-a", store).resolve_for(store)
    model = replace(config.model, encoder_channels=(4, 4), decoder_width=8, decoder_blocks=1, patch_edge=3)
    config = replace(config, model=model)
    torch.manual_seed(0)
    documents = {"config.json": config.to_json(), "task.json": json.dumps(store.task.to_dict())}
    folder = tmp_path_factory.mktemp("run") / "checkpoint"
    save_checkpoint(folder, network=network_from_config(config.model), documents=documents, state={})
    return folder


@pytest.fixture(scope="session")
def plugin_example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to put on the path, into which the example package is installed."""
    folder = tmp_path_factory.mktemp("plugin")
    source = shutil.copytree(ROOT / "tests" / "plugin_example", folder / "source")  # building writes into it
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", folder / "site", source]
    subprocess.run(command, check=True)
    return folder / "site"


@pytest.fixture
def plugins_forgotten() -> Iterator[None]:
    """What packages of another path have added is not known in the test, nor what its own add after it."""
    plugins.clear_cache()
    loaded = set(sys.modules)
    yield
    for name in set(sys.modules) - loaded:
        if name.startswith(("plug_", "example_")):
            del sys.modules[name]
    plugins.clear_cache()


@pytest.fixture
def scans_and_masks(tmp_path: Path) -> Path:
    """Two cases in the layout of the example package, which no layout of ours recognizes."""
    source = write_phantom(tmp_path / "source", cases=2, shape=(16, 14, 12), modalities=("FLAIR",))
    for image in (source / "imagesTr").iterdir():
        folder = tmp_path / "scans" / image.name.split(".")[0]
        folder.mkdir(parents=True)
        image.rename(folder / "scan.nii.gz")
        (source / "labelsTr" / image.name).rename(folder / "mask.nii.gz")
    return tmp_path / "scans"
