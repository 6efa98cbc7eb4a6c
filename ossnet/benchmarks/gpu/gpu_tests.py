"""The tests that need a GPU, run by pytest in a process of its own."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree as ET

from ossnet.benchmarks.gpu.results import Problem, PytestRow

PART = "tests"
ROOT = Path(__file__).parents[3]
_MARK = "mark.gpu"


def run_tests(root: Path, seconds: float) -> Iterator[PytestRow | Problem]:
    """Run `pytest -m gpu` on the files of a checkout that have such tests.

    Only these files: others import ray, which this check does without.

    Args:
        root: the checkout.
        seconds: after which the tests are stopped.
    """
    files = sorted(path for path in (root / "tests").rglob("test_*.py") if _MARK in path.read_text())
    if not files:
        yield Problem(PART, "", f"no tests with {_MARK} below {root / 'tests'}: run this in a checkout")
        return
    with TemporaryDirectory(prefix="ossnet-gpu-") as folder:
        report = Path(folder) / "report.xml"
        options = ["-q", "-m", "gpu", "-p", "no:cacheprovider", f"--junitxml={report}"]
        command = [sys.executable, "-m", "pytest", *options, *map(str, files)]
        try:
            done = subprocess.run(
                command, cwd=root, timeout=seconds, capture_output=True, text=True, check=False
            )
        except subprocess.TimeoutExpired as error:
            yield Problem(PART, "", f"stopped after {error.timeout:.0f} s")
            return
        if not report.exists():
            yield Problem(PART, "", f"{done.stdout}\n{done.stderr}")
            return
        yield from map(_row, ET.parse(report).iter("testcase"))


def _row(case: ET.Element) -> PytestRow:
    name, seconds = f"{case.get('classname')}.{case.get('name')}", float(case.get("time", 0))
    for kind in ("failure", "error", "skipped"):
        found = case.find(kind)
        if found is not None:
            message = (found.get("message") or found.text or "").strip()
            return PytestRow(name, "skipped" if kind == "skipped" else "failed", seconds, message)
    return PytestRow(name, "passed", seconds)
