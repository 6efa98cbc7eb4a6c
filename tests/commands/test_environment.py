"""How a job asks torch to use memory and threads, where the user does not say otherwise."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ossnet.commands.main import ENVIRONMENT

GRANTED = Path("/sys/kernel/mm/transparent_hugepage/enabled")
MEASURE = "import torch; held = torch.ones(2**26); print(open('/proc/self/smaps_rollup').read())"


def run_as_job(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run some code in the place of a job."""
    job = f"""
from types import SimpleNamespace
import sys
sys.modules['ossnet.commands.plan'] = SimpleNamespace(main=lambda arguments: exec({code!r}))
from ossnet.commands.main import run_job
run_job('plan', [])
"""
    own = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT}
    return subprocess.run(
        [sys.executable, "-c", job], env=own | variables, capture_output=True, text=True, check=True
    )


def huge_pages_mib(**variables: str) -> float:
    """Huge pages of a job that holds 256 MiB."""
    printed = run_as_job(MEASURE, **variables).stdout.splitlines()
    (line,) = (line for line in printed if line.startswith("AnonHugePages"))
    return int(line.split()[1]) / 1024


@pytest.mark.skipif(
    not GRANTED.is_file() or "[madvise]" not in GRANTED.read_text(),
    reason="huge pages are not asked for here",
)
def test_large_arrays_lie_on_huge_pages_unless_the_user_says_otherwise() -> None:
    assert huge_pages_mib() > 50  # all, where no memory is fragmented
    assert huge_pages_mib(THP_MEM_ALLOC_ENABLE="0") == 0


@pytest.mark.parametrize(("given", "policy"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "active"}, "ACTIVE")])
def test_waiting_threads_sleep_unless_the_user_says_otherwise(given: dict[str, str], policy: str) -> None:
    """OpenMP prints what it has read as torch loads it."""
    printed = run_as_job("import torch", OMP_DISPLAY_ENV="true", **given).stderr
    assert f"OMP_WAIT_POLICY = '{policy}'" in printed
