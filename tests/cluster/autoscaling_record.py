"""The nodes and trials of a study under Ray's autoscaler over time: the log, its record, and a figure of it.

The record is `docs/benchmarks/autoscaling.json`, the figure `docs/autoscaling.svg`; the test of a study on
nodes that come for it writes both with `--autoscaling-record`.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECORD = ROOT / "docs" / "benchmarks" / "autoscaling.json"
FIGURE = ROOT / "docs" / "autoscaling.svg"
KEEP = "--autoscaling-record"
COMMAND = f"pytest -m slow tests/cluster/test_autoscaling.py {KEEP}"

Row = Mapping[str, float]

# A line whenever something has changed; trials, and a job before them, reserve their place in a group.
_WATCH = """
import json, sys, time, ray
from ray.util import placement_group_table
ray.init(address=sys.argv[1], log_to_driver=False)
began, before = time.monotonic(), None
while True:
    states = [group["state"] for group in placement_group_table().values()]
    now = {
        "nodes": sum(node["Alive"] for node in ray.nodes()) - 1,
        "trials": states.count("CREATED"),
        "waiting": states.count("PENDING"),
    }
    if now != before:
        print(json.dumps({"seconds": round(time.monotonic() - began, 1), **now}), flush=True)
    before = now
    time.sleep(0.2)
"""

_WIDTH, _HEIGHT = 760, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 40, 34
_STYLE = (
    "text{font:13px sans-serif;fill:#3b4350}.grid{stroke:#dfe3ea}"
    ".nodes{fill:#3e8ef7;fill-opacity:.28}.trials{fill:none;stroke:#1c7d4f;stroke-width:2.5}"
    ".waiting{fill:none;stroke:#c93c41;stroke-width:2;stroke-dasharray:3 4}"
)
_KEY = (
    ("nodes", "worker nodes", 44),
    ("trials", "trials with a place on one", 170),
    ("waiting", "that wait for a node", 380),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(KEEP, action="store_true", help=f"write {RECORD.name} and {FIGURE.name}")


class Timeline:
    """What a cluster has had since the watch began.

    Args:
        log: the file of its lines.
    """

    def __init__(self, log: Path) -> None:
        self._log = log

    @property
    def rows(self) -> list[Row]:
        """Seconds since the watch began, worker nodes, trials with a place, and trials that wait for one."""
        lines = self._log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]  # Ray prints others

    def until_empty(self, limit_s: float) -> None:
        """Wait until the last worker node has gone."""
        until = time.monotonic() + limit_s
        while not self.rows or self.rows[-1]["nodes"]:
            assert time.monotonic() < until, self.rows
            time.sleep(0.5)


@contextmanager
def watched(address: str, environment: Mapping[str, str], log: Path) -> Iterator[Timeline]:
    """The timeline of a cluster while the block runs."""
    with log.open("w") as sink:
        command = [sys.executable, "-c", _WATCH, address]
        process = subprocess.Popen(command, env=environment, stdout=sink)
    try:
        timeline = Timeline(log)
        while not timeline.rows:
            assert process.poll() is None
            time.sleep(0.2)
        yield timeline
    finally:
        process.kill()
        process.wait()


def keep(rows: Sequence[Row]) -> None:
    """Write the record and the figure."""
    import ray

    facts = {
        "cluster": "cluster/aws.yaml, its nodes processes of one machine",
        "ray": ray.__version__,
        "command": COMMAND,
        "date": f"{datetime.now().astimezone():%Y-%m-%d}",
    }
    head = "".join(f"  {json.dumps(name)}: {json.dumps(value)},\n" for name, value in facts.items())
    lines = ",\n".join(f"    {json.dumps(row)}" for row in rows)
    RECORD.write_text(f'{{\n{head}  "rows": [\n{lines}\n  ]\n}}\n')
    FIGURE.write_text(draw(rows))


def read_rows() -> list[Row]:
    """What was recorded."""
    rows: list[Row] = json.loads(RECORD.read_text())["rows"]
    return rows


def draw(rows: Sequence[Row]) -> str:
    """The timeline as SVG."""
    end, most = rows[-1]["seconds"], max(max(row[name] for row in rows) for name, _, _ in _KEY)
    right, floor = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM

    def x(seconds: float) -> str:
        return f"{_LEFT + (right - _LEFT) * seconds / end:.1f}"

    def y(count: float) -> str:
        return f"{floor - (floor - _TOP) * count / most:.1f}"

    size = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        "<title>Nodes come for the trials of a study, and go when it has ended</title>",
        f'<style>{_STYLE}</style><rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    for count in range(int(most) + 1):
        parts.append(f'<path class="grid" d="M{_LEFT} {y(count)}H{right}"/>')
        parts.append(f'<text x="{_LEFT - 10}" y="{float(y(count)) + 4:.1f}" text-anchor="end">{count}</text>')
    parts += [
        f'<text x="{x(seconds)}" y="{floor + 20}" text-anchor="middle">{seconds} s</text>'
        for seconds in range(0, int(end) + 1, 20)
    ]
    for name, label, at in _KEY:
        first, *rest = rows
        path = f"M{x(first['seconds'])} {y(first[name])}"
        path += "".join(f"H{x(row['seconds'])}V{y(row[name])}" for row in rest)
        closed = f"V{floor}H{_LEFT}Z" if name == "nodes" else ""
        parts.append(f'<path class="{name}" d="{path}{closed}"/>')
        swatch = "h22v8h-22z" if name == "nodes" else "m0 4h22"
        parts.append(f'<path class="{name}" d="M{at} 14{swatch}"/><text x="{at + 28}" y="22">{label}</text>')
    return "\n".join([*parts, "</svg>", ""])
