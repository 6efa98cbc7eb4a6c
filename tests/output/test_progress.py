import contextlib
import os
import pty
import subprocess
import sys

from ossnet.output import progress as module
from ossnet.output.progress import progress


def test_a_log_gets_a_line_now_and_then(capsys, monkeypatch):
    monkeypatch.setattr(module, "_INTERVAL_S", 0)
    with progress("preparing", cases=3, size=3_000_000) as advance:
        for _ in range(3):
            advance(1_000_000)
    first, second = capsys.readouterr().err.splitlines()  # the end says so itself
    assert first.startswith("preparing: 1 of 3 cases, ")
    assert second.startswith("preparing: 2 of 3 cases, ")
    assert second.endswith(" s left")


def test_short_work_says_nothing_in_a_log(capsys):
    with progress("preparing", cases=2, size=2) as advance:
        advance(1)
        advance(1)
    assert capsys.readouterr().err == ""


def _all_of(terminal: int) -> bytes:
    """Everything that was written; a terminal whose writer has gone ends with an error."""
    parts = []
    with contextlib.suppress(OSError):
        while part := os.read(terminal, 1 << 16):
            parts.append(part)
    return b"".join(parts)


def test_a_terminal_gets_a_bar_that_goes_away():
    script = (
        "from ossnet.output.progress import progress\n"
        "with progress('preparing', cases=2, size=2000) as advance:\n"
        "    advance(1000)\n"
        "    advance(1000)\n"
    )
    ours, theirs = pty.openpty()
    subprocess.run(
        [sys.executable, "-c", script],
        stderr=theirs,
        check=True,
        env={**os.environ, "TERM": "xterm"},
        timeout=60,
    )
    os.close(theirs)
    shown = _all_of(ours).decode()
    os.close(ours)
    assert "2 of 2 cases" in shown
    assert shown.endswith("\x1b[2K")  # the line is cleared
