"""jobs/train.py as a user runs it, between the jobs before and after it."""

import csv
import json
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from subprocess import CompletedProcess

import nibabel
import numpy as np
import pytest

from ossnet.config import Config
from ossnet.data import Store, write_phantom
from ossnet.data.labels.presets import choose_regions
from ossnet.planning import measure
from ossnet.training.checkpoint import check_checkpoint

Job = Callable[..., CompletedProcess[str]]
REGIONS = ("WT", "TC", "ET")


def memory_metrics(database: Path) -> dict[str, float]:
    """The last values of the only run."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{database}")
    experiments = [each.experiment_id for each in client.search_experiments()]
    (run,) = client.search_runs(experiments)
    return {name: value for name, value in run.data.metrics.items() if name.startswith("memory/")}


@pytest.mark.slow  # test_plugin_jobs.py trains by default
@pytest.mark.usefixtures("cluster", "mlflow_store")
def test_a_run_on_regions_is_trained_resumed_evaluated_and_predicts(
    run_job: Job, tiny_training: list[str], tiny_network: list[str], tmp_path: Path
) -> None:
    scans = write_phantom(tmp_path / "scans", cases=6, shape=(20, 18, 16))
    given = ("--regions", "WT=1,2,3", "TC=2,enhancing", "ET=3")
    done = run_job("prepare", "--source", scans, "--output", "store", *given, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["prepared"] == 6
    store = Store.open(tmp_path / "store")
    assert store.task.regions == choose_regions("brats-regions", (), store.task.labels)

    options = ["--data", "store", "--output", "run", *tiny_training, *tiny_network]
    done = run_job("train", *options, "--epochs", "2")
    assert done.returncode == 0, done.stderr
    assert "epoch 2" in done.stderr
    assert "resolved for oss-net-c:" in done.stderr
    for text in ("Dice", "peak memory", "mlflow ui --backend-store-uri", "Next: ossnet evaluate"):
        assert text in done.stdout
    recipe = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert {"optimizer.schedule", "model.coordinates"} <= {row["path"] for row in recipe["choices"]}
    config = Config.from_json(tmp_path / "run" / "config.json")
    check_memory(memory_metrics(tmp_path / "mlflow.db"), config)

    again = run_job("train", *options, "--epochs", "2")
    assert again.returncode == 2
    assert "expected a new folder, found a run (config.json); continue it by --resume" in again.stderr
    more = run_job("train", *options, "--epochs", "4", "--resume", "--workers", "2", "--json")
    assert more.returncode == 0, more.stderr
    result = json.loads(more.stdout.strip().splitlines()[-1])
    assert result["metrics"]["epoch"] in {2, 4}
    dice = [result["metrics"][f"dice/val/{region}"] for region in REGIONS]
    assert result["metrics"]["dice/val"] == pytest.approx(sum(dice) / 3)
    shared = memory_metrics(tmp_path / "mlflow.db")["memory/peak_allocated_gib"]  # the larger of two ranks
    assert shared == pytest.approx(measure(config, device="cpu", workers=2).allocated_gib, rel=0.02)
    assert Path(result["checkpoint"]) == tmp_path / "run" / "checkpoint"
    check_checkpoint(tmp_path / "run" / "checkpoint")
    saved = json.loads((tmp_path / "run" / "checkpoint" / "task.json").read_text())
    inside = {"WT": list(store.task.labels), "TC": ["non-enhancing", "enhancing"], "ET": ["enhancing"]}
    assert saved["regions"] == inside

    of = ("--checkpoint", "run/checkpoint")
    scored = run_job("evaluate", *of, "--data", "store", "--output", "scored")
    assert scored.returncode == 0, scored.stderr
    assert "dice/ET" in scored.stdout
    assert "metrics are added to the run 'oss-net-c, " in scored.stderr
    rows = list(csv.DictReader((tmp_path / "scored" / "cases.csv").open()))
    assert [row["case"] for row in rows] == list(store.split("validation"))
    label = store.case(rows[0]["case"]).label
    counts = [int(rows[0][f"label_voxels/{region}"]) for region in REGIONS]
    assert counts == [np.count_nonzero(np.isin(label, each)) for each in ([1, 2, 3], [2, 3], [3])]

    hierarchical = ("--method", "hierarchical", "--output", "out", "--json")
    predicted = run_job("predict", *of, "--input", scans, *hierarchical)
    assert predicted.returncode == 0, predicted.stderr
    cases = json.loads(predicted.stdout)["cases"]
    assert [list(case["volumes_ml"]) for case in cases] == [list(REGIONS)] * 6
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 6
    for case in cases:
        values = np.unique(np.asarray(nibabel.load(tmp_path / case["output"]).dataobj))
        assert set(values.tolist()) <= {0, 1, 2, 3}


def check_memory(logged: Mapping[str, float], config: Config) -> None:
    """What a run of one worker logged is what is measured and predicted of its configuration."""
    peak = measure(config, device="cpu")
    assert logged["memory/peak_allocated_gib"] == pytest.approx(peak.allocated_gib, rel=0.02)
    assert logged["memory/peak_reserved_gib"] == pytest.approx(peak.reserved_gib, rel=0.02)
    assert logged["memory/predicted_gib"] == pytest.approx(peak.allocated_gib, rel=0.02)
    assert logged["memory/allocator_retries"] == logged["memory/allocator_out_of_memory"] == 0


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--resume"], "expected a run to resume, found no config.json"),
        (["--workers", "2-5"], "training.batch_size: expected a volume for each of the 5 workers, found 4"),
        (["--workers", "8-2"], "as in 2-8, found 8-2; write 2-8"),
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
