"""Which cluster a process ends up with."""

import logging
import os
import re
import socket
import subprocess
import sys
import time
from errno import ENOSPC
from pathlib import Path

import pytest
import ray

from ossnet.distributed.cluster import connection as clusters
from ossnet.distributed.cluster.nodes import AutoscaledNodes, autoscaled_nodes
from ossnet.distributed.cluster.sockets import short_folder
from ossnet.errors import UserError


@pytest.mark.parametrize(
    "address", ["127.0.0.1:9", "[::1]:9", "127.0.0.1:99999", "no.such.host.invalid:6379"]
)
def test_a_wrong_address_is_reported_at_once(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.monotonic()
    with pytest.raises(UserError, match="none to be reached there") as rejected:
        clusters._probe(address)
    assert address in str(rejected.value)
    assert time.monotonic() - began < 60


def test_relative_outputs_of_a_submitted_job_go_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(clusters.SUBMITTED, raising=False)
    assert clusters.output_root() == tmp_path
    monkeypatch.setenv(clusters.SUBMITTED, "{}")
    assert clusters.output_root() == Path.home() / "ossnet"


@pytest.mark.usefixtures("cluster")
def test_a_cluster_that_was_there_stays() -> None:
    import ray

    with clusters.connect():
        node = ray.get_runtime_context().get_node_id()
    assert ray.is_initialized()
    assert ray.get_runtime_context().get_node_id() == node


def test_an_embedded_cluster_is_heard_by_this_machine_only(tmp_path: Path) -> None:
    """Every port that its processes listen on, while a task runs; and its token is its user's alone."""
    script = (
        "import os, ray\n"
        "from pathlib import Path\n"
        "from ossnet.distributed.cluster.connection import connect\n"
        "with connect():\n"
        "    assert ray.get(ray.remote(lambda: 7).remote()) == 7\n"
        "    below, mine = {os.getpid()}, set()\n"
        "    parents = {int(p.parent.name): int(p.read_text().rpartition(')')[2].split()[1])\n"
        "               for p in Path('/proc').glob('[0-9]*/stat')}\n"
        "    while below:\n"
        "        mine |= below\n"
        "        below = {pid for pid, parent in parents.items() if parent in below}\n"
        "    print(*mine, sep=',')\n"
        "    import subprocess\n"
        "    print(subprocess.run(['ss', '-Hltnp'], capture_output=True, text=True, check=True).stdout)\n"
    )
    environment = {**os.environ, "HOME": str(tmp_path), "RAY_AUTH_MODE": "token"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment
    )
    first, *sockets = done.stdout.splitlines()
    ours = set(first.split(","))
    listening = [line.split()[3] for line in sockets if set(re.findall(r"pid=(\d+)", line)) & ours]
    assert len(listening) > 3
    hosts = {address.rpartition(":")[0].replace("::ffff:", "").strip("[]") for address in listening}
    assert hosts <= {"127.0.0.1", "::1"}
    token = tmp_path / ".ray" / "auth_token"
    assert [token.stat().st_mode & 0o777, token.parent.stat().st_mode & 0o777] == [0o600, 0o700]


def test_nodes_to_come_are_read_from_the_heads_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OSSNET_AUTOSCALED_NODES", raising=False)
    assert autoscaled_nodes() == []
    monkeypatch.setenv("OSSNET_AUTOSCALED_NODES", '[{"count": 2, "resources": {"GPU": 1}, "gpu_gib": 22}]')
    assert autoscaled_nodes() == [AutoscaledNodes(2, {"GPU": 1}, 22)]


@pytest.mark.parametrize("text", ["[", "7", '[{"count": 2}]', '[{"count": 2, "resources": {}, "more": 1}]'])
def test_a_list_of_nodes_that_cannot_be_read_is_named(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSSNET_AUTOSCALED_NODES", text)
    with pytest.raises(UserError, match="OSSNET_AUTOSCALED_NODES: expected a JSON list such as") as rejected:
        autoscaled_nodes()
    assert rejected.value.found == text


FOLDERS = (
    pytest.param("slurm_jobdir/1355700/tmp.t0016/scratch-of-the-user", marks=pytest.mark.slow),
    pytest.param("a b%20c #?&é", marks=pytest.mark.slow),
    "x" * 90 + "/é %2F?",
)


@pytest.mark.parametrize("folder", FOLDERS)
def test_ray_starts_and_ends_with_the_tmpdir_of_a_batch_system(folder: str, tmp_path: Path) -> None:
    """In a process of its own, as this one's tests share a cluster."""
    place = tmp_path / folder
    place.mkdir(parents=True)
    script = (
        "import ray\n"
        "from ossnet.distributed.cluster.connection import connect\n"
        "from ossnet.distributed.cluster.nodes import nodes\n"
        "with connect(cpus=1):\n"
        "    assert [node['CPU'] for node in nodes()] == [1]\n"
        "    assert ray.get(ray.remote(lambda: 7).remote()) == 7\n"
        "assert not ray.is_initialized()\n"
    )
    environment = {**os.environ, "TMPDIR": str(place)}
    environment.pop("RAY_TMPDIR", None)
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert all(line.startswith("starting Ray: for ") for line in done.stderr.splitlines())  # if it is slow
    assert list((place / "ray").glob("session_*"))  # Ray's files are where TMPDIR says


@pytest.mark.parametrize("length", [10, 70, 200])
def test_a_link_is_short_and_goes(length: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("x" * length)
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(folder))
    with short_folder() as short:
        assert len(str(short)) <= 44
        assert short.resolve() == folder / "ray"
    assert not short.is_symlink()
    assert not short.parent.exists()
    assert (folder / "ray").is_dir()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "file" / ("x" * 100)))
    with pytest.raises(UserError, match="expected a folder that can be written"), short_folder():
        pass


# `auto` finds any Ray of the machine, as those of tests that run at the same time: it is a test of its own
@pytest.mark.parametrize("address", [pytest.param("auto", marks=pytest.mark.slow), "silent"])
def test_a_cluster_that_does_not_answer_is_one_line(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # it accepts, and says nothing
        silent = f"127.0.0.1:{server.getsockname()[1]}"
        (tmp_path / "ray").mkdir()
        (tmp_path / "ray" / "ray_current_cluster").write_text(silent)
        monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
        began = time.monotonic()
        with pytest.raises(UserError, match="none to be reached there") as error:
            clusters._wait_for_answer("auto" if address == "auto" else silent, timeout_s=3)
        assert time.monotonic() - began < 30
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (OSError(ENOSPC, "No space left on device"), False),
        (RuntimeError("(sqlite3.OperationalError) database or disk is full"), False),
        (RuntimeError("something else"), True),
        (None, True),
    ],
)
def test_ray_says_faults_in_a_line_and_leaves_a_full_disk_to_the_jobs_last_one(
    error: Exception | None, shown: bool
) -> None:
    facts = None if error is None else (type(error), error, None)
    record = logging.LogRecord("ray", logging.ERROR, "", 1, "Error stopping %s:\n", ("a",), facts)
    assert clusters._without_traceback(record) is shown
    if shown:
        said = "Error stopping a:\n" if error is None else "Error stopping a: something else"
        assert logging.Formatter().format(record) == said


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("The node timed out during startup.\nIt is busy."), UserError),
        (ValueError("no such option"), ValueError),
    ],
)
def test_a_machine_too_busy_for_ray_is_one_line(
    error: Exception, said: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[object] = []

    def fail(**options: object) -> None:
        tries.append(options)
        raise error

    monkeypatch.setattr(ray, "init", fail)
    monkeypatch.setattr(ray, "shutdown", lambda: None)  # of the cluster that this process's tests share
    with pytest.raises(said, match=str(error).splitlines()[0]) as caught:
        clusters._start(1, tmp_path)
    assert len(tries) == 3
    assert "\n" not in str(caught.value)
