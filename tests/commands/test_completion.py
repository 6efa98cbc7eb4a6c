"""The completion as bash and zsh do it, with the script that ossnet prints."""

import os
import pty
import re
import select
import shlex
import shutil
import subprocess
import time
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


@pytest.mark.skipif(shutil.which("zsh") is None, reason="there is no zsh")
@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("ossnet pre", r"predict +prepare"),
        ("ossnet train --model unet-", r"unet-2d +unet-3d"),
        ("ossnet bench sea", "ossnet bench search"),
    ],
)
def test_zsh_completes_after_the_lines_of_the_page(script: Path, line: str, shown: str) -> None:
    """On a terminal: zsh completes nowhere else."""
    page = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()
    setup = page[page.index("autoload") :].splitlines()[0].replace("&& compinit", "&& compinit -D")
    child, terminal = pty.fork()
    if child == 0:
        os.execvpe("zsh", ["zsh", "-f", "-i"], {**os.environ, "TERM": "dumb"})
    try:
        _type(terminal, f"{setup}; source {shlex.quote(str(script))}; echo rea''dy\n", "ready\r")
        assert _type(terminal, f"{line}\t", shown)
    finally:
        os.close(terminal)  # which ends the shell
        os.waitpid(child, 0)


def _type(terminal: int, keys: str, until: str) -> bool:
    """Type keys, and wait for what they bring; whether it came."""
    os.write(terminal, keys.encode())
    printed, deadline = "", time.monotonic() + 30
    while time.monotonic() < deadline and not re.search(until, printed):
        if select.select([terminal], [], [], 1.0)[0]:
            printed += os.read(terminal, 1 << 16).decode(errors="replace")
    return re.search(until, printed) is not None


def test_every_option_is_offered(script: Path) -> None:
    for name, command in all_commands().items():
        assert set(complete(script, f"ossnet {name} --")) >= {option.name for option in command.options()}


def test_the_parsers_own_options_are_none_of_ours() -> None:
    with pytest.raises(UserError, match=r"--tyro-print-completion: expected an option .*ossnet --completion"):
        doctor.main(["--tyro-print-completion", "bash"])
