"""Main memory that is left, from what Linux reports of a machine and its control groups."""

import math
from pathlib import Path

import pytest
import torch

from ossnet.memory.available import available_memory, main_memory


def tree(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


MACHINE = "MemTotal:  9000 kB\nMemAvailable:    4000 kB\nSwapFree:  1000 kB\n"


@pytest.fixture
def groups(tmp_path: Path) -> Path:
    return tmp_path / "groups"


def processes(tmp_path: Path, group: str) -> Path:
    return tree(tmp_path / "proc", {"meminfo": MACHINE, "self/cgroup": group})


def test_a_machine_without_limits(tmp_path: Path, groups: Path) -> None:
    assert main_memory(processes(tmp_path, "0::/\n"), groups) == 5000 * 1024
    assert main_memory(tmp_path / "nowhere", groups) == math.inf


def test_version_2_counts_every_group_above(tmp_path: Path, groups: Path) -> None:
    tree(groups, {"memory.max": "max\n", "memory.current": "77\n"})
    tree(groups / "slice", {"memory.max": "1000000\n", "memory.current": "400000\n"})
    tree(groups / "slice" / "job", {"memory.max": "900000\n", "memory.current": "800000\n"})
    tree(groups / "slice" / "job", {"memory.stat": "anon 1\ninactive_file 700000\n"})
    assert main_memory(processes(tmp_path, "0::/slice/job\n"), groups) == 600_000
    (groups / "slice" / "job" / "memory.stat").write_text("inactive_file 2000\n")
    assert main_memory(processes(tmp_path, "0::/slice/job\n"), groups) == 102_000


def test_within_a_container_the_root_is_its_own(tmp_path: Path, groups: Path) -> None:
    tree(groups, {"memory.max": "3000\n", "memory.current": "1000\n"})
    assert main_memory(processes(tmp_path, "0::/../somewhere/else\n"), groups) == 2000


def test_version_1(tmp_path: Path, groups: Path) -> None:
    files = {"memory.limit_in_bytes": "3000\n", "memory.usage_in_bytes": "2900\n"}
    tree(groups / "memory" / "docker", files | {"memory.stat": "total_inactive_file 50\n"})
    cgroups = "5:cpu,cpuacct:/docker\n4:memory:/docker\n0::/\n"
    assert main_memory(processes(tmp_path, cgroups), groups) == 150


def test_this_machine() -> None:
    assert available_memory(torch.device("cpu")) > 2**20
