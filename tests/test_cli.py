"""The command line: durations, one-line errors with exit code 2, dotted options over a network's defaults."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossnet.cli import parse_duration
from ossnet.errors import UserError

JOB = textwrap.dedent(
    """
    from dataclasses import dataclass
    from pathlib import Path
    from ossnet.cli import finish_json, parse_with_config, run
    from ossnet.config import Config

    @dataclass
    class Options:
        data: Path
        model: str = "oss-net-c"
        resume: bool = False

    def main():
        options, config = parse_with_config(
            Options, description="a job", default=lambda model, data: Config.preset(model or "oss-net-c")
        )
        finish_json({"model": config.model.name, "resume": options.resume, **config.flatten()})

    run(main)
    """
)


def job(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "job.py"
    script.write_text(JOB)
    command = [sys.executable, str(script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@given(number=st.integers(0, 10_000))
def test_durations(number: int) -> None:
    assert parse_duration(f"{number}") == parse_duration(f"{number}s") == number
    assert parse_duration(f"{number}m") == 60 * number
    assert parse_duration(f"{number}.5h") == 3600 * (number + 0.5)


@pytest.mark.parametrize("duration", ["", "m", "20x", "-3s", "1m30s"])
def test_a_duration_that_is_none_is_refused(duration: str) -> None:
    with pytest.raises(UserError, match="expected a number"):
        parse_duration(duration)


def test_dotted_options_change_the_chosen_network(tmp_path: Path) -> None:
    import json

    done = job(tmp_path, "--data", "x", "--model", "oss-net-d", "--model.decoder-width", "64", "--resume")
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed["model"] == "oss-net-d"
    assert printed["model.decoder_width"] == 64
    assert printed["resume"] is True


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--sampling.border-shar", "0.5"), ["--sampling.border-shar", "--sampling.border-fraction"]),
        (("--model", "oss-net-q"), ["oss-net-q", "did you mean"]),
        (("--sampling.border-fraction", "1.5"), ["border_fraction"]),
        (("--model.patch-edge", "4"), ["patch_edge", "4"]),
        (("--training.epochs", "many"), ["--training.epochs", "many"]),
        (("--training.precision", "fp8"), ["--training.precision", "bf16"]),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    tmp_path: Path, arguments: tuple[str, ...], words: list[str]
) -> None:
    done = job(tmp_path, "--data", "x", *arguments)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert all(word in done.stderr for word in words), done.stderr


def test_help_shows_the_jobs_options_and_the_configurations(tmp_path: Path) -> None:
    done = job(tmp_path, "--help")
    assert done.returncode == 0
    assert all(option in done.stdout for option in ("--resume", "--model.decoder-width", "--training.epochs"))
