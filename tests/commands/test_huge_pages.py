"""Jobs put large arrays on huge pages, where Linux grants them and the user does not say otherwise."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ossnet.commands.main import HUGE_PAGES

GRANTED = Path("/sys/kernel/mm/transparent_hugepage/enabled")
MEASURE = "import torch; held = torch.ones(2**26); print(open('/proc/self/smaps_rollup').read())"
JOB = f"""
from types import SimpleNamespace
import sys
sys.modules['ossnet.commands.plan'] = SimpleNamespace(main=lambda arguments: exec({MEASURE!r}))
from ossnet.commands.main import run_job
run_job('plan', [])
"""


def huge_pages_mib(**variables: str) -> float:
    """Huge pages of a job that holds 256 MiB."""
    environment = {key: value for key, value in os.environ.items() if key != HUGE_PAGES}
    done = subprocess.run(
        [sys.executable, "-c", JOB], env=environment | variables, capture_output=True, text=True, check=True
    )
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("AnonHugePages"))
    return int(line.split()[1]) / 1024


@pytest.mark.skipif(
    not GRANTED.is_file() or "[madvise]" not in GRANTED.read_text(),
    reason="huge pages are not asked for here",
)
def test_large_arrays_lie_on_huge_pages_unless_the_user_says_otherwise() -> None:
    assert huge_pages_mib() > 50  # all, where no memory is fragmented
    assert huge_pages_mib(**{HUGE_PAGES: "0"}) == 0
