"""The command line: as it is recorded, as tyro understands it, and with help that fits a screen."""

import io
import os
import re
import subprocess
import sys
import tomllib
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import tyro
from command_line import RECORD, describe

from ossnet.commands._parse import COMMON_SETTINGS
from ossnet.commands._parse.completion import all_commands
from ossnet.commands._parse.help import WIDTH, list_options
from ossnet.commands.main import JOBS
from ossnet.config import Config

ROOT = Path(__file__).parents[2]
HELP_LINES = 50
HEAVY = ("torch", "ray", "mlflow", "optuna", "monai", "matplotlib", "pandas", "scipy")
# Run the command as `ossnet` does, then say which heavy libraries it has loaded.
SCRIPT = (
    "import atexit, sys\n"
    f"atexit.register(lambda: print('loaded', *(set({HEAVY}) & sys.modules.keys()), file=sys.stderr))\n"
    "from ossnet.commands.main import main\n"
    "main()\n"
)


def ossnet(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SCRIPT, *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "60"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def test_the_command_line_is_as_recorded() -> None:
    assert describe() == RECORD.read_text(), (
        "the command line has changed: run `python tests/commands/command_line.py`, and commit what it "
        "writes together with the change"
    )


@pytest.mark.parametrize(
    "words", ["", *JOBS, *(name for name in all_commands() if name.startswith("bench "))]
)
def test_help_fits_a_screen_writes_nothing_and_loads_nothing_heavy(words: str, tmp_path: Path) -> None:
    done = ossnet(tmp_path, *words.split(), "--help")
    assert done.returncode == 0, done.stderr
    assert done.stderr.split() == ["loaded"]
    lines = done.stdout.splitlines()
    assert 5 < len(lines) <= HELP_LINES
    assert max(map(len, lines)) <= WIDTH
    assert lines[0].startswith("usage: ossnet")
    assert "None" not in done.stdout
    assert not list(tmp_path.iterdir())


def test_all_help_shows_every_setting_and_writes_nothing(tmp_path: Path) -> None:
    done = ossnet(tmp_path, "train", "--model", "unet-3d", "--help-all")
    assert done.returncode == 0, done.stderr
    expected = {option.name for option in list_options(Config, Config.preset("unet-3d"))}
    shown = set(re.findall(r"^  (--\S+)", done.stdout, re.MULTILINE))
    assert expected <= shown
    assert not list(tmp_path.iterdir())


def flags(kind: type, **given: Any) -> set[str]:
    """The options that tyro's own help of a dataclass shows."""
    markers = (tyro.conf.AvoidSubcommands, tyro.conf.FlagCreatePairsOff)
    text = io.StringIO()
    with redirect_stdout(text), pytest.raises(SystemExit):
        tyro.cli(kind, args=["--help"], compact_help=False, config=markers, **given)
    return set(re.findall(r"^[│ ] (--[a-z]\S*)", text.getvalue(), re.MULTILINE))


@pytest.mark.parametrize("name", all_commands())
def test_tyro_takes_the_options_that_are_listed(name: str) -> None:
    kind = all_commands()[name].kind
    assert {option.name for option in list_options(kind)} == flags(kind)


@pytest.mark.parametrize("preset", ["oss-net-c", "unet-3d"])
def test_tyro_takes_the_settings_that_are_listed(preset: str) -> None:
    config = Config.preset(preset)
    settable = flags(Config, default=config) - {"--model.kind"}  # which follows from --model
    assert {option.name for option in list_options(Config, config)} == settable


@pytest.mark.parametrize("name", all_commands())
def test_every_option_is_explained(name: str) -> None:
    assert not [option.name for option in all_commands()[name].options() if not option.text]


def test_the_settings_that_help_shows_exist() -> None:
    known = {f"{each.name} {each.value}" for each in list_options(Config, Config.preset("oss-net-c"))}
    assert known >= COMMON_SETTINGS.keys()


def test_the_overview_lists_the_jobs(tmp_path: Path) -> None:
    alone, requested = ossnet(tmp_path), ossnet(tmp_path, "--help")
    assert alone.returncode == 0
    assert alone.stdout == requested.stdout
    listed = re.findall(r"^  (\w+)  +\S", alone.stdout, re.MULTILINE)
    assert listed == list(JOBS)
    assert {path.stem for path in (ROOT / "jobs").glob("*.py")} == set(JOBS)


def test_the_version_is_the_projects(tmp_path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"ossnet": "ossnet.commands.main:main"}
    assert ossnet(tmp_path, "--version").stdout.split() == ["ossnet", project["version"]]


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("options", [(), ("--version",), ("train", "--help")])
def test_a_reader_that_has_left_ends_a_job_in_silence(options: tuple[str, ...], unbuffered: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered}
    command = [sys.executable, "-c", "from ossnet.commands.main import main; main()", *options]
    done = subprocess.run(
        command, stdout=writer, stderr=subprocess.PIPE, env=environment, text=True, check=False, timeout=60
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_an_unknown_job_is_one_line_that_names_the_nearest(tmp_path: Path) -> None:
    done = ossnet(tmp_path, "trian", "--epochs", "1")
    assert done.returncode == 2
    assert (
        done.stderr.splitlines()[0]
        == "error: ossnet: expected a known job, found 'trian'; did you mean 'train'?"
    )


def test_a_job_file_is_the_same_as_the_command(tmp_path: Path) -> None:
    job = [sys.executable, str(ROOT / "jobs" / "plan.py"), "--sample", "3"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(job, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    installed = ossnet(tmp_path, "plan", "--sample", "3")
    assert done.returncode == installed.returncode == 2
    assert done.stderr.splitlines() == installed.stderr.splitlines()[:1]
