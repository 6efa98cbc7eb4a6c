"""The command line: durations, one-line errors with exit code 2, dotted options over a network's defaults."""

import io
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossnet.commands import predict, train, tune
from ossnet.commands._parse import Command, Dotted, parse_with_config
from ossnet.commands._values import parse_duration, space_file
from ossnet.config import Config
from ossnet.errors import UserError


@dataclass
class Options:
    data: Path
    model: str = "oss-net-c"
    resume: bool = False


def parse(*arguments: str) -> tuple[Options, Dotted]:
    command = Command("job", "A job.", Options, configurable=True)
    return parse_with_config(command, arguments, lambda model, data: Config.preset(model))


def test_options_are_checked_before_heavy_libraries_load(phantom_store: Path) -> None:
    arguments = ["--data", str(phantom_store), "--memory-budget", "1GiB", "--model.patch-edge", "auto"]
    code = (
        "import sys\n"
        "from ossnet.commands._parse import parse_with_config\n"
        "from ossnet.commands._values import check_values, preset_config\n"
        "from ossnet.commands import train, tune\n"
        "for job in (train, tune):\n"
        f"    parse_with_config(job.COMMAND, {arguments}, preset_config, check=check_values)\n"
        "print({'torch', 'ray', 'mlflow', 'optuna', 'monai'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@given(number=st.integers(1, 10_000), minutes=st.integers(0, 59))
def test_durations(number: int, minutes: int) -> None:
    for text in (f"{number}s", f" {number} S ", f"{number}sec", f"{number} seconds"):
        assert parse_duration(text) == number
    assert parse_duration(f"{number}m") == parse_duration(f"{number} min") == 60 * number
    assert parse_duration(f"{number}.5h") == 3600 * (number + 0.5)
    assert parse_duration(f"{number}h{minutes}m") == 3600 * number + 60 * minutes
    assert parse_duration(f"2d {number}h 1 min") == 2 * 86400 + 3600 * number + 60


@pytest.mark.parametrize(
    "duration", ["", "m", "20x", "-3s", "30s1m", "1m2m", "0s", "1h and 2m", "1e3s", "2 m5"]
)
def test_a_duration_that_is_none_is_refused(duration: str) -> None:
    with pytest.raises(UserError, match="expected numbers above 0 with units"):
        parse_duration(duration)


def test_a_duration_without_a_unit_is_told_how_to_be_written() -> None:
    with pytest.raises(UserError, match="write 2m for minutes or 2s for seconds"):
        parse_duration("2")


def test_dotted_options_change_the_chosen_network() -> None:
    options, dotted = parse("--data", "x", "--model", "oss-net-d", "--model.decoder-width", "64", "--resume")
    assert options == Options(Path("x"), "oss-net-d", resume=True)
    assert dotted == Dotted({"model.decoder_width": 64})


@pytest.mark.parametrize(
    ("arguments", "given", "auto"),
    [
        (["--sampling.points", "auto"], {}, ("sampling.points",)),
        (["--sampling.points=auto", "--training.epochs", "3"], {"training.epochs": 3}, ("sampling.points",)),
        (["--augmentation.no-flip"], {"augmentation.flip": False}, ()),
        (["--model.checkpoint_activations"], {"model.checkpoint_activations": True}, ()),
        (["--sampling.crop-shape", "8", "8", "8"], {"sampling.crop_shape": [8, 8, 8]}, ()),
    ],
)
def test_what_is_given_and_what_is_left_to_the_recipe(
    arguments: list[str], given: dict[str, object], auto: tuple[str, ...]
) -> None:
    _, dotted = parse("--data", "x", *arguments)
    assert (dotted.given, dotted.auto) == (given, auto)


def test_only_what_a_recipe_chooses_may_be_auto() -> None:
    with pytest.raises(UserError, match=r"--training\.seed"):
        parse("--data", "x", "--training.seed", "auto")


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
def test_a_mistake_is_one_line(arguments: tuple[str, ...], words: list[str]) -> None:
    with pytest.raises(UserError) as rejected:
        parse("--data", "x", *arguments)
    message = str(rejected.value)
    assert len(message.splitlines()) == 1
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("main", "option"),
    [
        *((train.main, option) for option in ("--max-time", "--memory-budget", "--grace", "--wait-at-most")),
        *((tune.main, option) for option in ("--max-time", "--inference-budget", "--objectives")),
    ],
)
def test_a_value_that_is_none_is_refused_before_anything_is_made(
    main: Callable[[Sequence[str]], None], option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="expected"):
        main([option, "2"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--training.seed", "4-8"), "--training.seed: expected a whole number, found 4-8"),
        (
            ("--training.steps-per-batch", "2.5"),
            "--training.steps-per-batch: expected a whole number, found 2.5",
        ),
        (("--optimizer.learning-rate", "fast"), "--optimizer.learning-rate: expected a number, found fast"),
        (("--training.max-time-s", "5m"), "--training.max-time-s: expected a number, found 5m"),
    ],
)
def test_what_is_no_number_is_said_in_our_words(arguments: tuple[str, ...], line: str) -> None:
    with pytest.raises(UserError) as rejected:
        parse("--data", "x", *arguments)
    assert str(rejected.value) == line


@pytest.mark.parametrize(
    ("command", "option"),
    [(tune.COMMAND, "--workers-per-trial"), (tune.COMMAND, "--trials"), (predict.COMMAND, "--workers")],
)
def test_of_workers_and_trials_there_is_one_at_least(command: Command[Any], option: str) -> None:
    command.parse([option, "1"])
    with pytest.raises(UserError, match=f"{option}: expected at least 1, found 0"):
        command.parse([option, "0"])


def test_a_space_is_a_file_or_the_name_of_a_shipped_one(tmp_path: Path) -> None:
    assert "def space(trial" in space_file("default").read_text()
    mine = tmp_path / "mine.py"
    assert space_file(str(mine)) == mine  # whether it is there is seen when it is loaded
    with pytest.raises(UserError, match="did you mean default"):
        space_file("defaults")


def test_a_mistake_is_one_line_whatever_the_encoding_of_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))
    with pytest.raises(UserError) as rejected:
        parse("--data", "x", "--training.epochs", "many")
    assert len(str(rejected.value).splitlines()) == 1
