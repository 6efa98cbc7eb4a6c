"""What a study cost and saved, and the front that it found: known sums, and what holds for any points."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossnet.distributed.reports.compute_cost import ComputeCost
from ossnet.distributed.reports.runs import RunRow
from ossnet.distributed.training.reporters import with_gpu_hours
from ossnet.output.figure import pareto
from ossnet.training.clock import Pace
from ossnet.training.reporting import TrainState


def row(**fields: Any) -> RunRow:
    values: dict[str, Any] = dict.fromkeys(RunRow.__dataclass_fields__)
    values |= {"name": "000 o-net", "network": "o-net", "status": "finished", "search_params": ()}
    return RunRow(**values | {"params": {"training.epochs": "8", "training.max_time_s": "null"}} | fields)


def test_the_cost_of_a_study_on_gpus_is_in_gpu_hours() -> None:
    half = row(elapsed_s=3600.0, gpu_hours=0.5, epoch=8.0)
    stopped = row(status="stopped early", elapsed_s=900.0, gpu_hours=0.25, epoch=2.0)
    cost = ComputeCost.of([half, stopped, row(status="failed")], rejected=2)
    assert cost == ComputeCost(True, 0.75, 1, 0.75, 2, 0.75)
    assert str(cost) == (
        "45.0 GPU-minutes were spent. Stopping 1 early saved about 45.0 GPU-minutes; "
        "rejecting 2 as too large about 45.0 GPU-minutes, at the average of those that started."
    )


def test_the_cost_without_a_gpu_is_in_hours() -> None:
    cost = ComputeCost.of([row(elapsed_s=5400.0, epoch=8.0)], rejected=0)
    assert str(cost) == "1.5 hours were spent on training."
    assert ComputeCost.of([], rejected=3).saved_by_rejecting == 0


def test_the_remaining_time_of_a_stopped_run_is_bounded_by_its_time_limit() -> None:
    params = {"training.epochs": "1000", "training.max_time_s": "600"}
    assert row(status="stopped early", elapsed_s=200.0, epoch=4.0, params=params).remaining_s == 400
    assert row(status="time limit", elapsed_s=200.0, epoch=4.0).remaining_s is None


@given(
    gpus=st.floats(0, 8),
    sessions=st.lists(st.tuples(st.floats(0, 1e5), st.integers(1, 8)), min_size=1, max_size=4),
)
def test_gpu_hours_are_hours_times_the_workers_of_then_times_their_gpus(
    gpus: float, sessions: list[tuple[float, int]]
) -> None:
    state = TrainState()
    for took_s, workers in sessions:
        state = state.at(state.elapsed_s + took_s, Pace(), workers=workers)
    metrics = with_gpu_hours({"time/worker_s": state.worker_s}, gpus)
    seconds = sum(took_s * workers * gpus for took_s, workers in sessions)
    assert metrics.get("cost/gpu_hours", 0.0) * 3600 == pytest.approx(seconds, rel=1e-6, abs=1e-6)


@given(points=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12))
def test_none_passes_a_point_of_the_front_in_both(points: list[tuple[int, int]]) -> None:
    front = [points[place] for place in pareto(points)]
    assert front == sorted(front)

    def passed(point: tuple[int, int]) -> bool:
        return any(x <= point[0] and y >= point[1] and (x, y) != point for x, y in points)

    assert set(front) == {point for point in points if not passed(point)}
