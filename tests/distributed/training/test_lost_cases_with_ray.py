"""Training by two workers under Ray on a store with a case that cannot be read."""

import logging
import shutil
import socket
from pathlib import Path

import pytest

from ossnet.config import Config
from ossnet.data import Store
from ossnet.distributed.launch import launch_training
from ossnet.distributed.tracking.client import TrackingConfig
from ossnet.errors import UserError


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("cluster")
def test_a_run_goes_on_without_a_case_and_says_so_or_ends_with_one_line(
    tiny: Config, phantom_store: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = shutil.copytree(phantom_store, tmp_path / "store")
    store = Store.open(root)
    case = store.split("training")[0]
    (root / store.manifest.cases[case].file).unlink()
    place = f"case {case}, node {socket.gethostname()}: expected a case of the store, found none"

    def train(name: str, config: Config) -> dict[str, float]:
        tracking = TrackingConfig.at(tmp_path, name)
        output = tmp_path / name
        return launch_training(
            config, store, output=output, workers=2, tracking=tracking, resume=False
        ).metrics

    config = tiny.replace({"training.epochs": 2, "data.strict": False, "data.max_lost": 0.2})
    with caplog.at_level(logging.WARNING):
        metrics = train("tolerant", config)
    assert metrics["data/lost_cases"] == 1
    lines = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert len(lines) == 2
    assert place in lines[0]
    assert lines[1] == f"warning: a case was left out, as above: {case}"
    with pytest.raises(UserError) as error:
        train("strict", config.replace({"data.strict": True}))
    assert place in str(error.value)
    assert "\n" not in str(error.value)
