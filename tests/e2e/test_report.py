"""jobs/report.py on runs that are written here, as a study would."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from PIL import Image

from ossnet.distributed.tracking.client import MetricPoint, RunSpec, Tracker, TrackingConfig

Job = Callable[..., CompletedProcess[str]]


@pytest.fixture
def study(mlflow_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tracker = Tracker(TrackingConfig.at(tmp_path, "mine"), study="s")
    tracker.open_run(RunSpec("s", "mine"))
    for number, (network, dice) in enumerate([("unet-3d", 0.5), ("oss-net-c", 0.75), ("o-net", None)]):
        tags = {"network": network, "search_params": "model.decoder_width"}
        params = {"model.decoder_width": 64 * (number + 1), "training.seed": number}
        tracker.open_run(RunSpec(network, f"{number} {network}", params, tags))
        values = {"memory/peak_allocated_gib": 0.25 * (number + 1), "time/step_s": 0.5}
        values |= {} if dice is None else {"dice/val": dice}
        tracker.log(
            network, [MetricPoint(name, value, 4, 1_700_000_000_000) for name, value in values.items()]
        )
    tracker.close("unet-3d", "KILLED", {"stop_reason": "early_stopped"})
    tracker.close("oss-net-c", "FINISHED")
    tracker.close("o-net", "FAILED")
    tracker.close("s", "FINISHED")


@pytest.mark.usefixtures("study")
def test_a_table_a_page_and_a_picture(run_job: Job, tmp_path: Path) -> None:
    done = run_job("report", "--experiment", "mine", "--output", "report")
    assert done.returncode == 0, done.stderr
    first, second, third = (line for line in done.stdout.splitlines() if "net" in line and "0.5" in line)
    assert first.split() == ["1", "oss-net-c", "finished", "0.75", "0.5", "0.5", "128"]  # the best one first
    assert second.split() == ["0", "unet-3d", "stopped", "early", "0.5", "0.25", "0.5", "64"]
    assert third.split() == ["2", "o-net", "failed", "0.75", "0.5", "192"]
    with (tmp_path / "report" / "runs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["Dice"] for row in rows] == ["0.75", "0.5", ""]
    assert rows[0]["model.decoder_width"] == "128"
    page = (tmp_path / "report" / "report.html").read_text()
    assert "oss-net-c" in page
    assert "The best: 1 oss-net-c" in page
    assert page.count("<circle") >= 3  # a mark for each run with a Dice, and a ring around the best
    assert "http" not in page  # nothing is fetched from elsewhere
    with Image.open(tmp_path / "report" / "memory.png") as picture:
        assert picture.size[0] > 500
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 10


@pytest.mark.usefixtures("study")
def test_the_runs_as_json(run_job: Job) -> None:
    done = run_job("report", "--experiment", "mine", "--output", "report", "--json")
    result = json.loads(done.stdout)
    assert [row["network"] for row in result["runs"]] == ["oss-net-c", "unet-3d", "o-net"]
    assert result["runs"][0]["memory_gib"] == 0.5


@pytest.mark.usefixtures("study")
def test_an_unknown_experiment_names_the_nearest(run_job: Job) -> None:
    done = run_job("report", "--experiment", "mnie")
    assert done.returncode == 2
    assert "did you mean 'mine'?" in done.stderr


def test_reading_makes_no_store(run_job: Job, tmp_path: Path) -> None:
    done = run_job("report", "--experiment", "mine")
    assert done.returncode == 2
    assert "expected an MLflow store, found none" in done.stderr
    assert not list(tmp_path.iterdir())
