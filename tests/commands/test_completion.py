"""The completion as bash does it, with the script that ossnet prints."""

import shlex
import subprocess
from pathlib import Path

import pytest

from ossnet.commands import doctor
from ossnet.commands._parse.completion import all_commands, completion_script
from ossnet.commands.main import JOBS
from ossnet.errors import UserError
from ossnet.models import PRESETS


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "ossnet"
    path.write_text(completion_script())
    return path


def complete(script: Path, line: str) -> list[str]:
    """What bash offers at the end of a line; a space there begins a new word."""
    words = line.split(" ")
    setting = f"COMP_WORDS=({' '.join(map(shlex.quote, words))}); COMP_CWORD={len(words) - 1}"
    command = f"source {shlex.quote(str(script))}; {setting}; _ossnet; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert not done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("ossnet ", list(JOBS)),
        ("ossnet pre", ["prepare", "predict"]),
        ("ossnet train --model ", list(PRESETS)),
        ("ossnet train --model unet-", [name for name in PRESETS if name.startswith("unet-")]),
        ("ossnet train --mem", ["--memory-budget"]),
        ("ossnet tune --sampling.border-f", ["--sampling.border-fraction"]),
        ("ossnet evaluate --split ", ["training", "validation", "test", "all"]),
        ("ossnet bench sea", ["search"]),
        ("ossnet bench search --time", ["--time-per-study"]),
        ("ossnet train --data ", []),  # names of files
        ("ossnet train --split", []),  # of another job
    ],
)
def test_jobs_options_and_values_are_offered(script: Path, line: str, offered: list[str]) -> None:
    assert complete(script, line) == offered


def test_every_option_is_offered(script: Path) -> None:
    for name, command in all_commands().items():
        assert set(complete(script, f"ossnet {name} --")) >= {option.name for option in command.options()}


def test_the_parsers_own_options_are_none_of_ours() -> None:
    with pytest.raises(UserError, match=r"--tyro-print-completion: expected an option .*ossnet --completion"):
        doctor.main(["--tyro-print-completion", "bash"])
