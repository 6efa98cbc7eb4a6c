"""jobs/tune.py: a study from the command line to MLflow and Optuna's file."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import optuna
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from ossnet.config import Config
from ossnet.data import Store
from ossnet.training.checkpoint import check_checkpoint

Job = Callable[..., CompletedProcess[str]]

# A network that learns nothing hits a few voxels; one that leaps says background everywhere, has a Dice of 0
# and falls behind. A rate beyond all bounds makes the loss not finite.
SPACE = """
POINTS_TO_EVALUATE = [
    {"width": width, "rate": rate} for width, rate in ((8, 0.0), (16, 0.0), (8, 1.0), (16, 1e30))
]

def space(trial):
    return {
        "model.decoder_width": trial.suggest_categorical("width", [8, 16]),
        "optimizer.learning_rate": trial.suggest_categorical("rate", [0.0, 1.0, 1e30]),
    }
"""
FINITE = SPACE.replace(", (8, 1.0), (16, 1e30)", "").replace(
    'suggest_categorical("rate", [0.0, 1.0, 1e30])', 'suggest_float("rate", 0.0, 0.02)'
)
EPOCHS = 4


@pytest.fixture
def space(tmp_path: Path) -> Path:
    path = tmp_path / "rates.py"
    path.write_text(SPACE)
    return path


def all_runs(folder: Path, experiment: str) -> tuple[MlflowClient, Run, list[Run]]:
    """The study's run and its trials', in their order."""
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    runs = client.search_runs([found.experiment_id])
    (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    children = sorted((run for run in runs if run is not parent), key=lambda run: run.info.run_name)
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    return client, parent, children


@pytest.mark.usefixtures("cluster", "mlflow_store")
def test_a_study(
    run_job: Job,
    phantom_store: Path,
    space: Path,
    tiny_training: list[str],
    tiny_network: list[str],
    tmp_path: Path,
) -> None:
    options = ["--data", phantom_store, "--space", space, "--trials", "4", "--output", "study"]
    options += [*tiny_training, *tiny_network, "--training.epochs", EPOCHS]
    done = run_job("tune", *options)
    assert done.returncode == 0, done.stderr
    lines = (
        "best trial",
        "Dice",
        "peak memory",
        f"mlflow ui --backend-store-uri sqlite:///{tmp_path}/mlflow.db",
    )
    assert all(text in done.stdout for text in (*lines, "Next: ossnet report --experiment rates"))
    check_checkpoint(tmp_path / "study" / "checkpoint")
    config = Config.from_json(tmp_path / "study" / "checkpoint" / "config.json")

    client, parent, children = all_runs(tmp_path, "rates")
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["best"] in done.stdout
    assert len(children) == 4
    study = optuna.load_study(study_name="rates", storage=f"sqlite:///{tmp_path / 'study' / 'study.db'}")
    chosen = {f"chosen.training.{name}" for name in ("steps_per_batch", "device_cache_gib")}
    for run, trial in zip(children, study.trials, strict=True):
        assert set(run.data.params) == chosen | set(config.resolve_for(Store.open(phantom_store)).flatten())
        assert run.data.params["model.decoder_width"] == str(trial.params["width"])
        assert float(run.data.params["optimizer.learning_rate"]) == trial.params["rate"]
        assert {"device", "version/torch", "version/ray"} <= run.data.tags.keys()
        files = {file.path for file in client.list_artifacts(run.info.run_id)}
        if trial.state.name == "FAIL":
            assert (run.info.status, trial.params["rate"]) == ("FAILED", 1e30)
            assert "lower the learning rate" in run.data.tags["error"]
            assert files == {"config.json"}
            continue
        check_metrics(client, run, trial)
        epochs = int(run.data.metrics["epoch"])
        if trial.state.name == "COMPLETE":
            assert (run.info.status, epochs) == ("FINISHED", EPOCHS)
            assert math.isclose(trial.value, run.data.metrics["dice/val"])
            assert files == {"checkpoint", "config.json", "overlays"}
        else:
            assert (run.info.status, trial.state.name) == ("KILLED", "PRUNED")
            assert run.data.tags["stop_reason"] == "early_stopped"
            assert epochs < EPOCHS
            assert files - {"overlays"} == {"config.json"}
    assert {trial.state.name for trial in study.trials} == {"COMPLETE", "PRUNED", "FAIL"}

    again = run_job("tune", *options)
    assert again.returncode == 2
    assert "expected a new folder, found a study" in again.stderr


def check_metrics(client: MlflowClient, run: Run, trial: optuna.trial.FrozenTrial) -> None:
    """Every step and every validation of a trial was logged once."""
    assert 0 < run.data.metrics["memory/peak_allocated_gib"] < 1
    assert run.data.metrics["time/step_s"] > 0
    dice = {metric.step: metric.value for metric in client.get_metric_history(run.info.run_id, "dice/val")}
    assert {step // 2: value for step, value in dice.items()} == trial.intermediate_values
    steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "loss/train")]
    assert sorted(steps) == list(range(1, 2 * int(run.data.metrics["epoch"]) + 1))


def ended(database: Path, name: str) -> list[optuna.trial.FrozenTrial]:
    trials = optuna.load_study(study_name=name, storage=f"sqlite:///{database}").trials
    return [trial for trial in trials if trial.state.is_finished()]


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_seeds_and_what_an_earlier_study_found(
    run_job: Job,
    phantom_store: Path,
    space: Path,
    tiny_training: list[str],
    tiny_network: list[str],
    tmp_path: Path,
) -> None:
    space.write_text(FINITE)
    options = ["--data", phantom_store, "--space", space, *tiny_training, *tiny_network]
    options += ["--training.epochs", 2, "--early-stopping.algorithm", "none", "--trials", 2]
    done = run_job("tune", *options, "--output", "first", "--seeds", 2, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    first = ended(tmp_path / "first" / "study.db", "rates")
    assert [trial.state.name for trial in first] == ["COMPLETE", "COMPLETE"]
    for trial in first:
        dice = [each["dice/val"] for each in trial.user_attrs["seeds"].values()]
        assert len(dice) == 2
        assert math.isclose(trial.value, sum(dice) / 2)
    best = max(first, key=lambda trial: trial.value)
    assert found["best"]["params"] == best.params
    assert found["best"]["dice"]["count"] == 2
    assert math.isclose(found["best"]["dice"]["mean"], best.value)
    _, _, children = all_runs(tmp_path, "rates")
    assert [(run.data.tags["trial"], run.data.tags["seed"]) for run in children] == [
        (trial, seed) for trial in "01" for seed in "01"
    ]
    assert {run.data.params["training.seed"] for run in children} == {"0", "1"}

    done = run_job("tune", *options, "--output", "second", "--experiment", "more", "--warm-start", "rates")
    assert done.returncode == 0, done.stderr
    assert "2 trials of rates are transferred, 0 lie outside the space" in done.stderr
    second = ended(tmp_path / "second" / "study.db", "more")
    transferred = [trial for trial in second if trial.user_attrs.get("from an earlier study")]
    assert [(trial.params, trial.values) for trial in transferred] == [
        (trial.params, trial.values) for trial in first
    ]
    assert len(second) == 4
    assert len(all_runs(tmp_path, "more")[2]) == 2


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--space", "typo.py"], "did you mean 'model.decoder_width'?"),
        (
            ["--space", "none.py"],
            "none.py: expected a Python file with a function space(trial), found no file",
        ),
        (["--model.decoder-widht", "8"], "did you mean '--model.decoder-width'?"),
        (["--max-time", "soon"], "duration 'soon': expected numbers above 0 with units"),
    ],
)
def test_mistakes_end_with_one_line_before_anything_starts(
    options: list[str], expected: str, run_job: Job, phantom_store: Path, tmp_path: Path
) -> None:
    (tmp_path / "typo.py").write_text("def space(trial): return {'model.decoder_widht': 8}")
    done = run_job("tune", "--data", phantom_store, *options, "--output", "study")
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["typo.py"]
