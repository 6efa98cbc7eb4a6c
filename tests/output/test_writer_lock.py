"""Who writes to an output: other machines see it by a file, and take it over from the dead only."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import pytest

from ossnet.errors import UserError
from ossnet.output import writer_lock
from ossnet.output.waiting import Waiting
from ossnet.output.writer_lock import LOCK, Writer, lock_file


def leave(folder: Path, writer: Writer, *, silent_s: float = 0.0) -> None:
    """A lock as a job that wrote its last heartbeat so long ago leaves it."""
    (folder / LOCK).write_text(json.dumps(asdict(writer)))
    last = time.time() - silent_s
    os.utime(folder / LOCK, (last, last))


@pytest.fixture
def elsewhere() -> Writer:
    return replace(Writer.this_process("tune"), host="node-b", pid=7, token="b")


def test_the_lock_names_the_process_and_goes(tmp_path: Path) -> None:
    with lock_file(tmp_path, "train"):
        found = json.loads((tmp_path / LOCK).read_text())
        assert (found["job"], found["pid"]) == ("train", os.getpid())
        assert time.time() - found["since"] < 10
    assert not list(tmp_path.iterdir())


def test_another_machine_that_lives_is_refused_in_one_line(tmp_path: Path, elsewhere: Writer) -> None:
    leave(tmp_path, elsewhere, silent_s=100)
    line = r"an ossnet tune that is still running \(process 7 on node-b, since [\d: -]+\); wait for its end"
    with pytest.raises(UserError, match=line), lock_file(tmp_path, "tune"):
        pass
    assert json.loads((tmp_path / LOCK).read_text())["token"] == "b"
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


@pytest.mark.chaos("the writer's machine silent")
def test_another_machine_that_is_silent_is_taken_over(
    tmp_path: Path, elsewhere: Writer, caplog: pytest.LogCaptureFixture
) -> None:
    leave(tmp_path, elsewhere, silent_s=400)
    with lock_file(tmp_path, "tune"):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    (line,) = caplog.messages
    assert "is taken over: ossnet tune (process 7 on node-b) has not been heard of for 400 s" in line


@pytest.mark.parametrize("text", ["", '{"job": "tu', "[]"])
def test_a_lock_that_was_cut_counts_by_its_age(tmp_path: Path, text: str) -> None:
    (tmp_path / LOCK).write_text(text)
    with pytest.raises(UserError, match="that is still running"), lock_file(tmp_path, "tune"):
        pass
    os.utime(tmp_path / LOCK, (1, 1))
    with lock_file(tmp_path, "tune"):
        pass


def test_a_process_of_this_machine_is_looked_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where it is gone, or another has its number, its lock is taken over at once; else not."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    start = writer_lock._process_start(child.pid)
    assert start is not None
    writer = replace(Writer.this_process("train"), pid=child.pid, process_start=start, token="c")
    leave(tmp_path, writer, silent_s=10_000)  # as of a machine that slept
    with pytest.raises(UserError, match=f"process {child.pid} on"), lock_file(tmp_path, "train"):
        pass
    leave(tmp_path, replace(writer, process_start="1"))
    with lock_file(tmp_path, "train"):
        pass
    leave(tmp_path, writer)
    child.communicate(b"\n")
    with lock_file(tmp_path, "train"):
        pass
    assert [line.endswith("is gone") for line in caplog.messages] == [True, True]


def test_of_many_that_take_over_one_does(tmp_path: Path, elsewhere: Writer) -> None:
    for _ in range(20):
        leave(tmp_path, elsewhere, silent_s=400)
        ready, got = threading.Barrier(6), list[str]()

        def take(number: int, ready: threading.Barrier = ready, got: list[str] = got) -> None:
            mine = replace(Writer.this_process("tune"), host=f"node-{number}")
            ready.wait()
            if writer_lock._take(tmp_path / LOCK, mine):
                got.append(mine.token)

        threads = [threading.Thread(target=take, args=(number,)) for number in range(6)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert got == [json.loads((tmp_path / LOCK).read_text())["token"]]
        assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def test_a_writer_that_slept_while_another_took_over_ends(
    tmp_path: Path, elsewhere: Writer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(writer_lock, "BEAT_S", 0.05)

    def sleep_inside() -> None:
        with lock_file(tmp_path, "tune"):
            leave(tmp_path, elsewhere)
            time.sleep(20)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by what a shell has behind it
    try:
        with pytest.raises(KeyboardInterrupt):
            sleep_inside()
    finally:
        signal.signal(signal.SIGINT, before)
    assert "was taken over by an ossnet tune that is still running (process 7 on node-b" in caplog.messages[0]
    assert json.loads((tmp_path / LOCK).read_text())["token"] == "b"


def test_the_heartbeat_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_lock, "BEAT_S", 0.05)
    with lock_file(tmp_path, "tune"):
        os.utime(tmp_path / LOCK, (1, 1))
        until = time.monotonic() + 20
        while (tmp_path / LOCK).stat().st_mtime < time.time() - 60:
            assert time.monotonic() < until
            time.sleep(0.05)


def test_a_lock_may_be_waited_for(tmp_path: Path, elsewhere: Writer) -> None:
    leave(tmp_path, elsewhere)
    threading.Timer(1.5, (tmp_path / LOCK).unlink).start()
    with lock_file(tmp_path, "tune", wait_at_most_s=30):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()


def test_a_wait_is_said_less_and_less_often_and_ends(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = [0.0]
    waiting = Waiting("2 workers of 1 GPU", at_most_s=7200.0, now=lambda: clock[0])
    said = []
    for second in range(7200):
        clock[0] = float(second)
        waiting.check(lambda: "1 GPU")
        if len(caplog.messages) > len(said):
            said.append(second)
    assert said[:6] == [15, 30, 60, 120, 240, 480]
    assert max(later - earlier for earlier, later in pairwise(said)) == 600
    assert caplog.messages[1] == "waiting for 2 workers of 1 GPU, for 30 s now; found 1 GPU"
    clock[0] = 7200.0
    line = "waited 7200 s, as --wait-at-most says: expected 2 workers of 1 GPU, found 1 GPU; give a longer"
    with pytest.raises(UserError, match=line):
        waiting.check(lambda: "1 GPU")
