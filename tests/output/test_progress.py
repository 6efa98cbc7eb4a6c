"""Progress: a bar on a terminal, and a log that is never silent for long, by a clock moved by hand."""

import contextlib
import os
import pty
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossnet.output.progress import FIRST_S, LONGEST_SILENCE_S, Lines, Work, first_s, progress


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


@given(st.lists(st.tuples(st.floats(0.1, 3.0), st.booleans()), min_size=1, max_size=300))
def test_a_log_is_never_silent_for_more_than_thirty_seconds(steps: list[tuple[float, bool]]) -> None:
    clock = Clock()
    lines, last = Lines(now=clock), clock.at
    for seconds, other in steps:  # as it is looked at every second or so; others write lines too
        clock.at += seconds
        if other:
            lines.written()
            last = clock.at
        elif lines.take():
            last = clock.at
        assert clock.at - last <= LONGEST_SILENCE_S + 3
    assert LONGEST_SILENCE_S + 3 < 30


def test_the_first_line_of_a_log_comes_early() -> None:
    clock = Clock()
    lines = Lines(now=clock)
    clock.at += FIRST_S - 1
    assert not lines.take()
    clock.at += 1
    assert lines.take()
    assert not lines.take()


def test_a_job_that_has_just_begun_says_so_at_once() -> None:
    """Imports take seconds, and the first line is to come in five."""
    assert [first_s(uptime) for uptime in (0.0, 4.0, FIRST_S)] == [1.0, 1.0, FIRST_S]


def test_work_of_known_size_says_rate_and_time_left() -> None:
    clock = Clock()
    work = Work("preparing", 3, size=30_000_000, now=clock)
    assert work.state() == "0 of 3 cases, for 0 s now"
    clock.at += 5
    work.advance(10_000_000)
    assert work.state() == "1 of 3 cases, 2.0 MB/s, 10 s left"


def test_work_without_a_size_goes_by_its_number() -> None:
    clock = Clock()
    work = Work("evaluating", 4, now=clock)
    clock.at += 20
    work.advance(note="last Dice 0.5000")
    assert work.state() == "1 of 4 cases, 20 s a case, 60 s left, last Dice 0.5000"
    work.advance()
    work.advance()
    work.advance()
    assert work.state() == "4 of 4 cases, 5 s a case, 0 s left, last Dice 0.5000"


def test_work_that_begins_in_the_middle_counts_what_it_does_itself() -> None:
    clock = Clock()
    work = Work("training", now=clock)
    work.set(0.5, "epoch 26 of 50", "loss 0.3")
    clock.at += 10
    work.set(0.75, "epoch 38 of 50", "loss 0.2")
    assert work.state() == "epoch 38 of 50, 10 s left, loss 0.2"


def test_a_slow_case_does_not_make_the_time_left_climb() -> None:
    clock = Clock()
    work = Work("evaluating", 4, now=clock)
    clock.at += 20
    work.advance()
    clock.at += 300
    assert work.left_s == 60


def test_the_time_before_the_first_share_does_not_count() -> None:
    """A start of 30 s made "43 min left" of a limit of 15 minutes."""
    clock = Clock()
    work = Work("training", now=clock)
    clock.at = 30.0
    work.set(30 / 900, "epoch 1", "")
    clock.at = 50.0
    work.set(50 / 900, "epoch 1", "")
    assert work.left_s == pytest.approx(850)


def test_work_of_unknown_length_says_how_long_it_has_lasted() -> None:
    clock = Clock()
    work = Work("starting Ray", now=clock)
    clock.at += 42
    assert work.state() == "for 42 s now"
    assert work.share is None


def test_short_work_says_nothing_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("preparing", total=2, size=2) as shown:
        shown(1)
        shown(1)
    assert capsys.readouterr().err == ""


def test_lines_that_stay_are_among_those_of_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("evaluating") as shown:
        shown.say("1/2 a: Dice 0.5000")
    assert capsys.readouterr().err == "1/2 a: Dice 0.5000\n"


def _all_of(terminal: int) -> bytes:
    """Everything that was written; a terminal whose writer has gone ends with an error."""
    parts = []
    with contextlib.suppress(OSError):
        while part := os.read(terminal, 1 << 16):
            parts.append(part)
    return b"".join(parts)


def test_a_terminal_gets_a_bar_that_goes_away_and_lines_that_stay() -> None:
    script = (
        "from ossnet.output.progress import progress\n"
        "with progress('preparing', total=2, size=2000) as shown:\n"
        "    shown(1000)\n"
        "    shown.say('one of them')\n"
        "    with progress('starting Ray'):\n"
        "        pass\n"
        "    shown(1000, note='last Dice 0.5')\n"
    )
    ours, theirs = pty.openpty()
    subprocess.run(
        [sys.executable, "-c", script],
        stderr=theirs,
        check=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "160"},
        timeout=60,
    )
    os.close(theirs)
    shown = _all_of(ours).decode()
    os.close(ours)
    assert "2 of 2 cases" in shown
    assert "last Dice 0.5" in shown
    assert "one of them\r\n" in shown
    assert "starting Ray" in shown
    assert shown.endswith("\x1b[2K")  # the line is cleared
