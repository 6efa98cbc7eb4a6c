"""The command line: durations, one-line errors with exit code 2, dotted options over a network's defaults."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossnet.commands._values import parse_duration, space_file
from ossnet.errors import UserError

JOB = textwrap.dedent(
    """
    import sys
    from dataclasses import dataclass
    from pathlib import Path
    from ossnet.commands._output import finish_json
    from ossnet.commands._parse import Command, parse_with_config
    from ossnet.config import Config
    from ossnet.errors import UserError

    @dataclass
    class Options:
        data: Path
        model: str = "oss-net-c"
        resume: bool = False

    try:
        options, config = parse_with_config(
            Command("job", "A job.", Options, configurable=True),
            sys.argv[1:],
            lambda model, data: Config.preset(model),
        )
        finish_json({"model": config.model.name, "resume": options.resume, **config.flatten()})
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
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
        (("--sampling.border-fractio", "0.5"), ["--sampling.border-fractio", "--sampling.border-fraction"]),
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


def test_a_space_is_a_file_or_the_name_of_a_shipped_one(tmp_path: Path) -> None:
    assert "def space(trial" in space_file("networks").read_text()
    mine = tmp_path / "mine.py"
    assert space_file(str(mine)) == mine  # whether it is there is seen when it is loaded
    with pytest.raises(UserError, match="did you mean networks"):
        space_file("network")
