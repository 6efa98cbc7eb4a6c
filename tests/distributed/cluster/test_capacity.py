"""What is waited for is said, and ends where it is to end."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune import PlacementGroupFactory
from ray.util.placement_group import placement_group, remove_placement_group

from ossnet.distributed.cluster.capacity import (
    CapacityReport,
    RunCapacity,
    describe_cluster,
    wait_for_capacity,
)
from ossnet.distributed.cluster.resources import WorkerResources
from ossnet.errors import UserError

pytestmark = pytest.mark.usefixtures("cluster")


def trial(status: str) -> Any:
    """What a report looks at of one of Ray Tune's trials."""
    factory = PlacementGroupFactory([{"CPU": 4000}])
    return SimpleNamespace(
        status=status, PENDING="PENDING", RUNNING="RUNNING", placement_group_factory=factory
    )


def wait_until_all_is_free() -> None:
    import ray

    until = time.monotonic() + 30
    while ray.available_resources().get("CPU") != ray.cluster_resources()["CPU"]:
        assert time.monotonic() < until
        time.sleep(0.1)


def test_what_is_there_is_taken_at_once_and_given_back() -> None:
    wait_for_capacity(WorkerResources(1), 1, at_most_s=60)
    wait_until_all_is_free()


def test_what_never_comes_ends_with_one_line() -> None:
    line = (
        r"waited \d+ s, as --wait-at-most says: expected 2 workers of 4000 CPUs, found 1 node with \d+ CPUs"
    )
    with pytest.raises(UserError, match=line):
        wait_for_capacity(WorkerResources(4000), 2, at_most_s=2)


def test_a_run_waits_for_nodes_that_have_room_for_its_workers() -> None:
    RunCapacity(WorkerResources(1), 1, at_most_s=0.0, every_s=0.0).check()
    lacking = RunCapacity(WorkerResources(4000), 2, at_most_s=0.2, every_s=0.0)
    lacking.check()
    time.sleep(0.2)
    with pytest.raises(UserError, match="expected 2 workers of 4000 CPUs, found 1 node with"):
        lacking.check()


@contextmanager
def place_for(cpus: float, *, free: bool) -> Iterator[None]:
    """What Ray Tune asks for before a trial starts."""
    group = placement_group([{"CPU": cpus}])
    assert group.wait(30 if free else 0) == free
    try:
        yield
    finally:
        remove_placement_group(group)
        wait_until_all_is_free()


def test_a_study_says_what_its_trials_wait_for() -> None:
    report = CapacityReport(at_most_s=0.3, every_s=0.0)
    with place_for(4000, free=False):
        report.on_step_end(1, [trial("PENDING"), trial("RUNNING")])  # one that waits for the other
        time.sleep(0.4)
        report.on_step_end(2, [trial("PENDING"), trial("TERMINATED")])
        time.sleep(0.4)
        line = r"expected a trial's 4000 CPUs, found 1 node with \d+ CPUs \(\d+ free\)"
        with pytest.raises(UserError, match=line):
            report.on_step_end(3, [trial("PENDING")])


def test_a_trial_that_has_its_place_and_starts_waits_for_nothing() -> None:
    report = CapacityReport(at_most_s=0.1, every_s=0.0)
    with place_for(1, free=True):
        for step in range(3):
            report.on_step_end(step, [trial("PENDING")])
            time.sleep(0.2)


def test_a_node_that_goes_or_comes_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    report = CapacityReport(every_s=0.0)
    report.on_step_end(1, [])
    monkeypatch.setattr(report._nodes, "_nodes", {"a": "10.0.0.7"})
    report.on_step_end(2, [])
    lost, joined = caplog.messages
    assert lost == f"warning: node 10.0.0.7 was lost; the cluster has {describe_cluster()}"
    assert joined.startswith("node 127.0.0.1 has joined; the cluster has 1 node with ")
    report.on_step_end(3, [])
    assert len(caplog.messages) == 2
