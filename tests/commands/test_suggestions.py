"""What is suggested for options that a job lacks: the one of their meaning, then that of their letters."""

from importlib import import_module

import pytest

from ossnet.commands._parse import Command
from ossnet.commands._parse.help import list_options
from ossnet.commands._parse.suggestions import _MEANINGS, unknown_argument
from ossnet.config import Config
from ossnet.errors import UserError


def command(job: str) -> Command:
    return import_module(f"ossnet.commands.{job}").COMMAND


def suggestion(job: str, found: str) -> str:
    known = command(job).options()
    if command(job).configurable:
        config = Config.preset("oss-net-c")
        known += list_options(type(config), config)
    return str(unknown_argument(found, known).remedy)


@pytest.mark.parametrize(
    ("job", "found", "meant"),
    [
        ("train", "--lr", "--optimizer.learning-rate"),
        ("train", "--learning_rate", "--optimizer.learning-rate"),
        ("train", "--bs", "--training.batch-size"),
        ("train", "--batch-size", "--training.batch-size"),
        ("train", "--amp", "--training.precision"),
        ("train", "--points", "--sampling.points"),
        ("train", "--num-gpus", "--workers"),
        ("train", "--dataset", "--data"),
        ("train", "--network", "--model"),
        ("train", "--vram", "--memory-budget"),
        ("train", "scans", "--data scans"),
        ("tune", "--n-trials", "--trials"),
        ("tune", "--gpus", "--workers-per-trial"),
        ("tune", "--timeout", "--max-time"),
        ("prepare", "scans", "--source scans"),
        ("prepare", "--images", "--source"),
        ("predict", "--images", "--input"),
        ("predict", "--weights", "--checkpoint"),
        ("predict", "--tta", "--flips"),
        ("predict", "scan.nii.gz", "--input scan.nii.gz"),
        ("evaluate", "--model", "--checkpoint"),
        ("tune", "--trails", "--trials"),
        ("train", "--model.decoder-widht", "--model.decoder-width"),
    ],
)
def test_the_meaning_comes_before_the_letters(job: str, found: str, meant: str) -> None:
    assert suggestion(job, found) == f"did you mean {meant!r}?"


def test_what_is_suggested_exists() -> None:
    config = Config.preset("oss-net-c")
    known = {option.name for option in list_options(type(config), config)}
    for job in ("prepare", "verify", "plan", "train", "tune", "evaluate", "predict", "report"):
        known |= {option.name for option in command(job).options()}
    assert set(_MEANINGS) <= known


@pytest.mark.parametrize("layout", ["nnunet", "brats", "csv"])
def test_a_layout_is_no_network(layout: str) -> None:
    from ossnet.commands._parse import parse_with_config

    with pytest.raises(UserError, match=f"found '{layout}', a layout of scans; give ossnet prepare --layout"):
        parse_with_config(command("train"), ["--model", layout], lambda model, data: Config.preset(model))
