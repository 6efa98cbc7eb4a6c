"""The options of `make chaos`, and its record: a row for each test marked `chaos`, as it ends.

Rows stand in `docs/benchmarks/chaos.json`; the table of `docs/reliability.md` is made of them.
"""

import json
import re
from collections.abc import Generator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[3]
RECORD = ROOT / "docs" / "benchmarks" / "chaos.json"
PAGE = ROOT / "docs" / "reliability.md"
SEED, KEEP = "--chaos-seed", "--chaos-record"
COUNTS = ("lost", "doubled", "hung")
_TABLE = re.compile(r"(?<=<!-- chaos -->\n).*?(?=<!-- /chaos -->)", re.DOTALL)

Row = Mapping[str, Any]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("chaos")
    group.addoption(SEED, type=int, default=0, help="decides when and where faults happen")
    group.addoption(KEEP, action="store_true", help=f"write {RECORD.name} and the table of {PAGE.name}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    mark = item.get_closest_marker("chaos")
    if mark is not None and report.when == "call" and not report.skipped and item.config.getoption(KEEP):
        _keep(_row(mark.args[0], item, report))
    return report


def _row(fault: str, item: pytest.Item, report: pytest.TestReport) -> Row:
    """A row; a test that counts nothing itself fails where anything is lost, doubled or hung."""
    counted, case = dict(report.user_properties), getattr(item, "callspec", None)
    return {
        "fault": fault if case is None or counted or case.id == fault else f"{fault} ({case.id})",
        "test": item.nodeid.partition("[")[0].partition("::")[0],
        "in_every_run": item.get_closest_marker("slow") is None,
        "seed": item.config.getoption(SEED) if "lost" in counted else None,
        "seconds": round(report.duration, 1),
        **{name: counted.get(name, 0) for name in COUNTS},
        "passed": report.passed,
        "date": f"{datetime.now().astimezone():%Y-%m-%d}",
    }


def _keep(row: Row) -> None:
    """Put a row into the record, in the place of that of the same fault and seed, and make the table anew."""
    with FileLock(gettempdir() + f"/{RECORD.name}.lock"):  # of tests that run beside
        _replace(row)


def _replace(row: Row) -> None:
    rows = read_rows()
    keys = [(each["fault"], each["seed"]) for each in rows]
    key = (row["fault"], row["seed"])
    place = keys.index(key) if key in keys else len(rows)
    rows[place : place + 1] = [row]
    RECORD.write_text("[\n" + ",\n".join(f"  {json.dumps(each)}" for each in rows) + "\n]\n")
    PAGE.write_text(with_table(PAGE.read_text(), rows))


def read_rows() -> list[Row]:
    """What was recorded."""
    return json.loads(RECORD.read_text()) if RECORD.exists() else []


def with_table(page: str, rows: Sequence[Row]) -> str:
    """A page with the table of these rows in its place."""
    by_fault: dict[str, list[Row]] = {}
    for row in rows:
        by_fault.setdefault(row["fault"], []).append(row)
    lines = ["| fault | seeds | seconds | lost | doubled | hung | |", "|---|---|---|---|---|---|---|"]
    for fault, runs in by_fault.items():
        seeds = ", ".join(str(run["seed"]) for run in runs if run["seed"] is not None)
        counts = " | ".join(str(sum(run[name] for run in runs)) for name in COUNTS)
        notes = ["in every run of the tests"] * runs[-1]["in_every_run"]
        notes += ["**failed**"] * (not all(run["passed"] for run in runs))
        seconds = max(run["seconds"] for run in runs)
        lines.append(f"| {fault} | {seeds} | {seconds:.0f} | {counts} | {', '.join(notes)} |")
    return _TABLE.sub(lambda _: "\n".join(lines) + "\n", page)
