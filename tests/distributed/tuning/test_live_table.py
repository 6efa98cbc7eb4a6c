"""The table of running trials, as a terminal shows it."""

import io
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from ossnet.config import Config
from ossnet.distributed.tuning.config import OptimizationConfig
from ossnet.distributed.tuning.monitor import TrialMonitor
from ossnet.distributed.tuning.progress.reporter import ProgressReporter
from ossnet.distributed.tuning.progress.table import TrialRow, trial_table
from ossnet.distributed.tuning.storage import TuningStudy
from ossnet.distributed.tuning.trial import TrialSpec


def shown(width: int, *rows: TrialRow, footer: tuple[str, ...] = ()) -> list[str]:
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    console.print(trial_table(rows, title="3 of 10 trials have ended", footer=footer))
    return cast("io.StringIO", console.file).getvalue().splitlines()


def test_a_row_says_what_a_trial_is_and_how_it_does() -> None:
    row = TrialRow(7, "unet-3d", "learning_rate=0.002", "epoch 3/40", 0.5, 0.625, 1.25, 90.0)
    title, head, line, footer = shown(110, row, footer=("2 rejected as too large", ""))
    assert title == "3 of 10 trials have ended"
    assert head.split("  ")[0] == "trial"
    assert line.split() == [
        "007",
        "unet-3d",
        "learning_rate=0.002",
        "epoch",
        "3/40",
        "0.5000",
        "0.6250",
        "1.250",
        "90",
        "s",
    ]
    assert footer == "2 rejected as too large"


def test_long_parameters_leave_the_numbers_in_place() -> None:
    row = TrialRow(
        7, "oss-net-c", ", ".join(f"parameter_{each}=0.125" for each in range(9)), "epoch 3/40", 0.5
    )
    lines = shown(90, row)
    assert all(len(line) <= 90 for line in lines)
    assert any("0.5000" in line for line in lines)


def test_a_trial_without_a_result_says_so() -> None:
    _, _, line = shown(110, TrialRow(0, "o-net", "", "no result yet"))
    assert line.split() == ["000", "o-net", "no", "result", "yet"]


class Clock:
    at = 0.0

    def __call__(self) -> float:
        return self.at


Reporting = tuple[ProgressReporter, Clock, SimpleNamespace]


@pytest.fixture
def reporting(tmp_path: Path, tiny: Config) -> Callable[..., Reporting]:
    """A reporter of a study without trials, its clock, and a trial of Ray Tune that runs."""

    def make(terminal: Console | None = None) -> Reporting:
        study = TuningStudy.open_or_create(tmp_path / "study.db", "s", OptimizationConfig())
        clock, monitor = Clock(), TrialMonitor()
        reporter = ProgressReporter(study, monitor, trials=5, terminal=terminal, now=clock)
        spec = TrialSpec(tiny.to_json(), "r", 3, 0, 1, {"width": 0.123456}, predicted_gib=0.5)
        trial = SimpleNamespace(
            trial_id="t",
            status="RUNNING",
            RUNNING="RUNNING",
            config=spec.to_dict(),
            run_metadata=SimpleNamespace(last_result={}),
        )
        return reporter, clock, trial

    return make


def result(epoch: int, dice: float, share: float) -> dict[str, Any]:
    return {"epoch": epoch, "dice/val": dice, "share": share, "time/elapsed_s": 30.0, "time_total_s": -7200.0}


def test_last_and_best_dice_progress_and_time_left(reporting: Callable[..., Reporting]) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None)
    reporter, clock, trial = reporting(console)
    for number, (dice, share) in enumerate([(0.5, 0.25), (0.25, 0.75)], 1):
        trial.run_metadata.last_result = result(number, dice, share)
        reporter._monitor.update("t", trial.run_metadata.last_result)
        reporter.on_trial_result(0, [trial], trial, trial.run_metadata.last_result)  # type: ignore[arg-type,list-item]
    clock.at += 1
    reporter.on_step_end(0, [trial])  # type: ignore[list-item]
    reporter.close()
    assert "oss-net-c" in cast("io.StringIO", console.file).getvalue()
    printed = Console(file=io.StringIO(), width=120, color_system=None)
    printed.print(reporter.table([trial]))  # type: ignore[list-item]
    text = cast("io.StringIO", printed.file).getvalue()
    (line,) = (line for line in text.splitlines() if "oss-net-c" in line)
    assert line.split() == [
        "003",
        "oss-net-c",
        "width=0.123",
        "epoch",
        "2/4",
        "0.2500",
        "0.5000",
        "0.500",
        "10",
        "s",
    ]
    assert "0 of 5 trials have ended" in text


def test_a_log_has_a_line_before_the_first_result_and_twice_a_minute(
    reporting: Callable[..., Reporting], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    reporter, clock, trial = reporting()
    monkeypatch.setattr("ossnet.distributed.tuning.progress.reporter.logger.propagate", True)
    caplog.set_level("INFO", "ossnet.distributed.tuning.progress.reporter")
    times = list[float]()
    for tenth in range(1200):
        clock.at = tenth / 10
        before = len(caplog.records)
        reporter.on_step_end(tenth, [trial] if clock.at > 15 else [])
        times += [clock.at] * (len(caplog.records) - before)
    assert times[0] == 10
    assert max(later - earlier for earlier, later in pairwise(times)) <= 20.1
    assert caplog.messages[0].startswith("no trial runs yet")
    assert "003 oss-net-c no result yet" in caplog.messages[1]


def test_a_trial_that_the_studys_time_ends_was_as_far_as_it_said(
    reporting: Callable[..., Reporting], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last result need not say how far it was."""
    reporter, _, trial = reporting()
    monkeypatch.setattr("ossnet.distributed.tuning.progress.reporter.logger.propagate", True)
    caplog.set_level("INFO", "ossnet.distributed.tuning.progress.reporter")
    reporter.on_trial_result(0, [trial], trial, result(2, 0.5, 0.5))  # type: ignore[arg-type,list-item]
    trial.run_metadata.last_result = {"done": True}
    reporter.on_trial_complete(0, [trial], trial)  # type: ignore[arg-type,list-item]
    assert "epoch 2/4" in caplog.messages[-1]
