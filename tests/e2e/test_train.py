"""jobs/train.py as a user runs it."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from ossnet.config import Config
from ossnet.data import write_phantom
from ossnet.planning import measure
from ossnet.training.checkpoint import check_checkpoint

Job = Callable[..., CompletedProcess[str]]


def memory_metrics(database: Path) -> dict[str, float]:
    """The last values of the only run."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{database}")
    experiments = [each.experiment_id for each in client.search_experiments()]
    (run,) = client.search_runs(experiments)
    return {name: value for name, value in run.data.metrics.items() if name.startswith("memory/")}


@pytest.mark.usefixtures("cluster", "mlflow_store")
def test_a_run_is_trained_resumed_and_evaluated(
    run_job: Job,
    phantom_store: Path,
    tiny_training: list[str],
    tiny_network: list[str],
    tmp_path: Path,
) -> None:
    options = ["--data", phantom_store, "--output", "run", *tiny_training, *tiny_network]
    done = run_job("train", *options, "--epochs", "2")
    assert done.returncode == 0, done.stderr
    assert "epoch 2" in done.stderr
    assert "resolved for oss-net-c:" in done.stderr
    recipe = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert {"optimizer.schedule", "model.coordinates"} <= {row["path"] for row in recipe["choices"]}
    config = Config.from_json(tmp_path / "run" / "config.json")
    logged = memory_metrics(tmp_path / "mlflow.db")
    peak = measure(config, device="cpu")
    assert logged["memory/peak_allocated_gib"] == pytest.approx(peak.allocated_gib, rel=0.02)
    assert logged["memory/peak_reserved_gib"] == pytest.approx(peak.reserved_gib, rel=0.02)
    assert logged["memory/predicted_gib"] == pytest.approx(peak.allocated_gib, rel=0.02)
    assert logged["memory/allocator_retries"] == logged["memory/allocator_out_of_memory"] == 0
    for text in ("Dice", "peak memory", "mlflow ui --backend-store-uri", "Next: ossnet evaluate"):
        assert text in done.stdout
    again = run_job("train", *options, "--epochs", "2")
    assert again.returncode == 2
    assert "expected a new folder, found a run (config.json); continue it by --resume" in again.stderr
    more = run_job("train", *options, "--epochs", "4", "--resume", "--workers", "2", "--json")
    assert more.returncode == 0, more.stderr
    result = json.loads(more.stdout.strip().splitlines()[-1])
    assert result["metrics"]["epoch"] in {2, 4}
    shared = memory_metrics(tmp_path / "mlflow.db")["memory/peak_allocated_gib"]  # the larger of two ranks
    assert shared == pytest.approx(measure(config, device="cpu", workers=2).allocated_gib, rel=0.02)
    assert Path(result["checkpoint"]) == tmp_path / "run" / "checkpoint"
    check_checkpoint(tmp_path / "run" / "checkpoint")
    evaluated = run_job(
        "evaluate",
        "--checkpoint",
        "run/checkpoint",
        "--data",
        phantom_store,
        "--output",
        "evaluated",
        "--json",
    )
    assert evaluated.returncode == 0, evaluated.stderr
    assert json.loads(evaluated.stdout)["cases"] == 2


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--resume"], "expected a run to resume, found no config.json"),
        (["--workers", "3"], "training.batch_size: expected a multiple of the 3 workers, found 4"),
        (["--training.batch-size", "40"], "expected at most the 8 training cases, found 40"),
        (["--optimizer.learning-rat", "1"], "did you mean '--optimizer.learning-rate'?"),
    ],
)
def test_mistakes_leave_nothing_behind(
    options: list[str], expected: str, run_job: Job, phantom_store: Path, tmp_path: Path
) -> None:
    done = run_job(
        "train", "--data", phantom_store, "--output", "run", "--training.batch-size", "4", *options
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert expected in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_commands_suggested_for_a_study_of_one_case_work(
    run_process: Job, tiny_network: list[str], tmp_path: Path
) -> None:
    write_phantom(tmp_path / "scans", cases=1, shape=(28, 26, 22))
    done = run_process("prepare", "--source", "scans", "--output", "store")
    for more in ([*tiny_network, "--epochs", "1", "--sampling.points", "64"], []):
        assert done.returncode == 0, done.stderr
        words = shlex.split(done.stdout.partition("Next: ossnet ")[2])
        done = run_process(words[0], *words[1:], *more)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "runs" / "train" / "evaluation" / "summary.json").read_text())["cases"] == 1
