"""Interruptions: both signals end a job, with the exit code that a shell expects."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ossnet.commands._interrupt import resumable
from ossnet.output.interruption import Interruption, Overdue, Terminated, exit_code, postponed, wait_for


def test_a_call_in_a_thread_gives_its_result_or_its_error() -> None:
    assert wait_for(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        wait_for(lambda: 1 / 0)


def test_what_takes_too_long_is_given_up() -> None:
    began = time.monotonic()
    with pytest.raises(Overdue):
        wait_for(lambda: time.sleep(20), until=time.time() + 0.3)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_waiting_job_at_once(number: int, code: int) -> None:
    script = (
        "import sys, time\n"
        "from ossnet.output.interruption import exit_code, raise_on_signals, wait_for\n"
        "raise_on_signals()\n"
        "try:\n"
        "    print('ready', flush=True)\n"
        "    wait_for(lambda: time.sleep(60))\n"
        "except KeyboardInterrupt as interruption:\n"
        "    sys.exit(exit_code(interruption))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.kill(process.pid, number)
    assert process.wait(30) == code


def test_the_first_interruption_may_be_postponed() -> None:
    """It is raised at the end of the block, by the next one, or when the time is over."""
    reached = list[int]()

    def run(*numbers: int, at_most_s: float = 60.0, sleep_s: float = 0.0) -> list[int]:
        reached.clear()
        with postponed(Interruption(), at_most_s=at_most_s):
            for number in numbers:
                signal.raise_signal(number)
                reached.append(number)
            time.sleep(sleep_s)
            reached.append(0)
        return reached

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(signal.SIGINT)
    assert reached == [signal.SIGINT, 0]
    with pytest.raises(KeyboardInterrupt):
        run(signal.SIGINT, signal.SIGINT)
    assert reached == [signal.SIGINT]
    with pytest.raises(KeyboardInterrupt):
        run(signal.SIGINT, at_most_s=0.2, sleep_s=30.0)
    assert reached == [signal.SIGINT]
    assert signal.getsignal(signal.SIGINT) is before
    assert run() == [0]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), Terminated()])
def test_an_interrupted_job_says_how_to_go_on(
    interruption: KeyboardInterrupt, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").touch()
    arguments = ["--model", "o-net", "--resume"]
    with pytest.raises(SystemExit) as stop, resumable("train", arguments, tmp_path, state="config.json"):
        raise interruption
    assert stop.value.code == exit_code(interruption)
    line = f"interrupted; go on with: ossnet train --model o-net --output {tmp_path} --resume\n"
    assert capsys.readouterr().err == line


def test_a_job_that_had_not_begun_begins_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (
        pytest.raises(SystemExit),
        resumable("tune", [f"--output={tmp_path}"], tmp_path, state="study.db"),
    ):
        raise KeyboardInterrupt
    assert capsys.readouterr().err.endswith(f"ossnet tune --output={tmp_path}\n")


@pytest.mark.parametrize("given", [["--resume", "auto"], ["--resume=auto"]])
def test_a_job_that_starts_or_goes_on_is_given_again_as_it_was(
    given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").touch()
    arguments = [*given, "--epochs", "2", "--output", "run"]
    with pytest.raises(SystemExit), resumable("train", arguments, tmp_path, state="config.json"):
        raise KeyboardInterrupt
    assert capsys.readouterr().err.endswith(f"ossnet train {' '.join(arguments)}\n")
