"""What a training shows, from its metrics, by a clock that is moved by hand."""

import pytest

from ossnet.distributed.cluster.resources import Workers
from ossnet.distributed.training.progress import TrainingView
from ossnet.metric_names import (
    ELAPSED,
    EPOCH,
    EXPECTED_EPOCH,
    EXPECTED_STEP,
    STEP,
    STEP_TIME,
    VAL_DICE,
    VALIDATED_CASES,
    WORKERS,
)
from ossnet.output.progress import Progress, Work
from ossnet.training import TrainingConfig

PACE = {EXPECTED_STEP: 2.0, EXPECTED_EPOCH: 20.0, "loss/train": 0.7}


class Clock:
    at = 0.0

    def __call__(self) -> float:
        return self.at


def view(
    training: TrainingConfig, workers: Workers = 1, limit_s: float | None = None
) -> tuple[TrainingView, Work, list[str], Clock]:
    clock, lines = Clock(), list[str]()
    work = Work("training", now=clock)
    shown = Progress(work, lines.append)
    viewed = TrainingView(training, shown, workers=workers, limit_s=limit_s, now=clock)
    return viewed, work, lines, clock


def test_steps_within_an_epoch_move_it() -> None:
    shown, work, lines, clock = view(TrainingConfig(epochs=5))
    shown.show({})
    assert work.state() == "for 0 s now"
    shown.show(PACE | {STEP: 1.0})
    clock.at = 28.0
    shown.show(PACE | {STEP: 15.0})
    assert work.share == 0.3
    assert work.state() == "epoch 2 of 5, step 15, 2 s a step, 70 s left, loss 0.7"
    assert len(lines) == 1  # what the parts take, once
    assert lines[0].startswith("a step 2 s")


def test_a_line_says_with_how_many_workers_it_goes_on() -> None:
    shown, _, lines, _ = view(TrainingConfig(epochs=5), workers=(1, 2))
    for workers in (2.0, 2.0, 1.0, 2.0):
        shown.show({STEP: 1.0, WORKERS: workers})
    assert lines == [
        "training begins with 2 workers",
        "training goes on with 1 worker",
        "training goes on with 2 workers",
    ]
    shown, _, lines, _ = view(TrainingConfig(epochs=5), workers=2)
    shown.show({STEP: 1.0, WORKERS: 2.0})
    assert not lines


def test_a_wait_and_a_restart_are_no_time_of_steps() -> None:
    shown, work, _, clock = view(TrainingConfig(epochs=5), workers=2)
    for step in (1.0, 15.0):
        clock.at = 2 * step - 2
        shown.show(PACE | {STEP: step, WORKERS: 2.0})
    assert work.state() == "epoch 2 of 5, step 15, 2 s a step, 70 s left, loss 0.7"
    for clock.at in (100.0, 600.0):  # a node is lost, and another one waited for
        shown.show(PACE | {STEP: 15.0, WORKERS: 2.0})
        assert work.left_s == pytest.approx(70)
    slower = {EXPECTED_STEP: 4.0, EXPECTED_EPOCH: 40.0, WORKERS: 1.0}
    for step in (11.0, 16.0):  # from the checkpoint of step 10
        clock.at = 604 + 4 * (step - 11)
        shown.show(slower | {STEP: step})
    assert work.left_s == pytest.approx(34 * 4)
    for step in (16.0, 14.0, 17.0):  # the same worker, killed
        clock.at += 30
        shown.show(slower | {STEP: step})
    assert work.left_s == pytest.approx(33 * 10)


def test_an_epoch_is_a_line_and_the_best_dice_stays() -> None:
    shown, work, lines, _ = view(TrainingConfig(epochs=5))
    validated = PACE | {STEP: 10.0, EPOCH: 1.0, VAL_DICE: 0.5, VALIDATED_CASES: 2.0, STEP_TIME: 2.0}
    shown.show(validated)
    shown.show(validated)
    shown.show(validated | {STEP: 20.0, EPOCH: 2.0, VAL_DICE: 0.25})
    assert [line for line in lines if line.startswith("epoch")] == [
        "epoch 1  dice/val 0.5  time/step_s 2 on 2 cases",
        "epoch 2  dice/val 0.25  time/step_s 2 on 2 cases",
    ]
    assert work.note == "loss 0.7, Dice 0.2500 (best 0.5000)"


def test_a_timed_run_goes_by_its_time() -> None:
    shown, work, _, clock = view(TrainingConfig(epochs=1000, max_time_s=200.0))
    shown.show(PACE | {STEP: 1.0})
    clock.at = 50.0
    shown.show(PACE | {STEP: 20.0})
    assert work.share == 0.25
    assert work.state() == "epoch 3, step 20, 2 s a step, 2 min left, loss 0.7".replace("2 min", "150 s")
    shown.show(PACE | {STEP: 25.0, EPOCH: 2.0, ELAPSED: 100.0})  # a run that was resumed has taken more
    assert work.share == 0.5


def test_a_job_of_limited_time_says_what_is_left_of_it() -> None:
    """Whatever the start took: here 40 s of 180, of which a training knows nothing."""
    shown, work, _, clock = view(TrainingConfig(epochs=1000, max_time_s=180.0), limit_s=180.0)
    ended = {STEP: 40.0, EPOCH: 2.0, ELAPSED: 48.0}
    for at, known in ((40.0, {STEP: 1.0}), (60.0, {STEP: 20.0}), (90.0, ended)):
        clock.at = at
        shown.show(PACE | known)
        assert work.share == at / 180
    assert work.left_s == pytest.approx(90.0)
    clock.at = 200.0
    shown.show(PACE | ended)
    assert work.left_s == 0.0
