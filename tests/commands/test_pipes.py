"""A job that prints tables and whose reader leaves ends in silence, as others do: `ossnet plan | head`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

MAIN = "from ossnet.commands.main import main; main()"
TABLE = "from ossnet.output.tables import print_table; print_table(['a'], [['b']] * 1000)"
FAKE_PLAN = f"""
from types import SimpleNamespace
import sys
sys.modules['ossnet.commands.plan'] = SimpleNamespace(main=lambda arguments: exec({TABLE!r}))
{MAIN}
"""
SMALL = [
    "--sampling.working-shape",
    "32",
    "32",
    "32",
    "--model.in-channels",
    "1",
    "--training.batch-size",
    "2",
]


def without_reader(code: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run Python with an output that nobody reads any more."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-c", code, *arguments]
    try:
        return subprocess.run(
            command, stdout=writing, stderr=subprocess.PIPE, text=True, cwd=folder, check=False
        )
    finally:
        os.close(writing)


def test_a_table(tmp_path: Path) -> None:
    done = without_reader(FAKE_PLAN, "plan", folder=tmp_path)
    assert done.stderr == ""
    assert done.returncode in {1, 141}  # the library of tables has its own


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_plan(options: list[str], tmp_path: Path) -> None:
    done = without_reader(MAIN, "plan", "--model", "unet-2d", *SMALL, *options, folder=tmp_path)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
    assert done.returncode in {1, 141}
