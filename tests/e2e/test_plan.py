"""jobs/plan.py on tiny networks."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from PIL import Image

Job = Callable[..., CompletedProcess[str]]
SMALL = ("--sampling.working-shape", 32, 32, 32, "--model.in-channels", 1, "--training.batch-size", 2)


def test_one_network_in_tables(run_job: Job, tmp_path: Path) -> None:
    done = run_job("plan", "--model", "unet-2d", *SMALL, "--measure", "--output", "plan")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("network")
    name, predicted, _, measured, *_ = lines[1].split()
    assert name == "unet-2d"
    assert float(predicted) == pytest.approx(float(measured), rel=0.02)
    parts, training = lines[2].split(), lines[3].split()
    assert parts[-3:] == ["encoder", "decoder", "workspace"]
    assert sum(map(float, training[1:])) == pytest.approx(float(predicted), abs=0.005)
    assert "1 of 1 (100%) fit a GPU of 8 GB" in lines[5]
    assert "largest batch in 8 GB" in done.stdout
    assert "not calibrated" in done.stdout
    with Image.open(tmp_path / "plan" / "growth.png") as picture:
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 10


def test_a_space_as_json(run_job: Job, tmp_path: Path) -> None:
    (tmp_path / "space.py").write_text(
        "def space(trial):\n"
        "    channels = trial.suggest_categorical('channels', [(4, 8), (8, 16)])\n"
        "    return {'model': 'unet-2d', 'model.channels': channels}\n"
    )
    done = run_job("plan", "--space", "space.py", "--samples", 3, *SMALL, "--memory-budget", "1GiB", "--json")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    printed = json.loads(line)
    assert printed["budget"] == 2**30
    assert len(printed["estimates"]) == 3
    assert printed["fitting_fractions"] == {"8GB": 1.0, "budget": 1.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--model", "oss-net-e"), "expected a known network, found 'oss-net-e'; did you mean 'oss-net-"),
        (("--memory-budget", "much"), "memory 'much': expected a number above 0"),
        (("--space", "nowhere.py"), "nowhere.py: expected a Python file with a function space(trial)"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    run_job: Job, tmp_path: Path, options: tuple[object, ...], message: str
) -> None:
    done = run_job("plan", *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())
