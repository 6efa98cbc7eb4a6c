"""A space with a constraint and a module beside it, and tune --resume after it was edited."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Job = Callable[..., subprocess.CompletedProcess[str]]

SPACE = """import optuna
from sizes import SIZES
def space(trial):
    width = trial.suggest_categorical("width", SIZES)
    if width == 24:
        raise optuna.TrialPruned("too wide")
    return {"model.decoder_width": width}
"""


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_comment_may_change_and_a_value_may_not(
    run_job: Job, phantom_store: Path, tiny_training: list[str], tiny_network: list[str], tmp_path: Path
) -> None:
    space = tmp_path / "widths.py"
    (tmp_path / "sizes.py").write_text("SIZES = [8, 16, 24]")
    options = ["--data", phantom_store, "--space", space, "--output", "study", "--json", *tiny_training]

    def tune(text: str, trials: int, *more: str) -> subprocess.CompletedProcess[str]:
        space.write_text(text)
        epochs = ["--training.epochs", 1, "--training.validate-every", 1]
        return run_job("tune", *options, *tiny_network, *epochs, "--trials", trials, *more)

    first = tune(SPACE, 1)
    assert first.returncode == 0, first.stderr
    again = tune(f"# wide ones\n{SPACE}    # two widths\n", 2, "--resume")
    assert again.returncode == 0, again.stderr
    counts = [json.loads(done.stdout.splitlines()[-1])["trials"]["finished"] for done in (first, again)]
    assert counts == [1, 2]
    checkpoint = (tmp_path / "study" / "checkpoint" / "model.safetensors").read_bytes()
    refused = tune(SPACE.replace("24", "16"), 3, "--resume")
    assert refused.returncode == 2
    (line,) = [each for each in refused.stderr.splitlines() if each.startswith("error:")]
    assert "resumed study, space: expected the space file that it began with" in line
    assert "Traceback" not in refused.stderr
    assert (tmp_path / "study" / "checkpoint" / "model.safetensors").read_bytes() == checkpoint
