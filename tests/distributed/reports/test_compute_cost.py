"""What a study cost and saved, and the front that it found: known sums, and what holds for any points."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossnet.distributed.reports.compute_cost import ComputeCost, with_gpu_hours
from ossnet.distributed.reports.figures import pareto
from ossnet.distributed.reports.report import RunRow


def row(**fields: Any) -> RunRow:
    values: dict[str, Any] = dict.fromkeys(RunRow.__dataclass_fields__)
    values |= {"name": "000 o-net", "network": "o-net", "status": "finished", "varied": ()}
    return RunRow(**values | {"params": {"training.epochs": "8", "training.max_time_s": "null"}} | fields)


def test_a_study_on_gpus_is_told_in_gpu_hours() -> None:
    half_width = row(elapsed_s=3600.0, gpu_hours=0.5, epoch=8.0)
    stopped = row(status="stopped early", elapsed_s=900.0, gpu_hours=0.25, epoch=2.0)
    ledger = ComputeCost.of([half_width, stopped, row(status="failed")], refused=2)
    assert ledger == ComputeCost(True, 0.75, 1, 0.75, 2, 0.75)
    assert str(ledger) == (
        "45.0 GPU-minutes were spent. Stopping 1 early saved about 45.0 GPU-minutes; "
        "refusing 2 as too large about 45.0 GPU-minutes, at the average of those that started."
    )


def test_without_a_gpu_it_is_told_in_hours() -> None:
    ledger = ComputeCost.of([row(elapsed_s=5400.0, epoch=8.0)], refused=0)
    assert str(ledger) == "1.5 hours were spent on training."
    assert ComputeCost.of([], refused=3).saved_by_refusing == 0


def test_what_a_stopped_run_had_left_is_bounded_by_its_time_limit() -> None:
    params = {"training.epochs": "1000", "training.max_time_s": "600"}
    assert row(status="stopped early", elapsed_s=200.0, epoch=4.0, params=params).left_s == 400
    assert row(status="time limit", elapsed_s=200.0, epoch=4.0).left_s is None


@given(elapsed_s=st.floats(0, 1e6), gpus=st.floats(0, 8))
def test_gpu_hours_are_hours_times_gpus(elapsed_s: float, gpus: float) -> None:
    told = with_gpu_hours({"time/elapsed_s": elapsed_s}, gpus)
    assert told.get("cost/gpu_hours", 0.0) * 3600 == pytest.approx(elapsed_s * gpus)


@given(points=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12))
def test_none_passes_a_point_of_the_front_in_both(points: list[tuple[int, int]]) -> None:
    front = [points[place] for place in pareto(points)]
    assert front == sorted(front)

    def passed(point: tuple[int, int]) -> bool:
        return any(x <= point[0] and y >= point[1] and (x, y) != point for x, y in points)

    assert set(front) == {point for point in points if not passed(point)}
