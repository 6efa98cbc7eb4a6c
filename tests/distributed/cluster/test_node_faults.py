"""Nodes that fail trainings: each is avoided after two failures, and without any other a study ends."""

import logging

import pytest
import ray
from hypothesis import given
from hypothesis import strategies as st

from ossnet.distributed.cluster.node_faults import NodeFaults
from ossnet.distributed.cluster.nodes import avoiding, find_hosts
from ossnet.distributed.cluster.resources import TrialPlacement, WorkerResources, plan_trials
from ossnet.errors import UserError

ONE_CPU = TrialPlacement(workers=1, resources=WorkerResources(1), concurrent=2)


@given(st.lists(st.sampled_from("abc"), max_size=12))
def test_a_node_is_avoided_after_two_failures(failures: list[str]) -> None:
    faults = NodeFaults()
    for node in failures:
        faults.add(node, f"the disk of {node} is full")
    assert faults.avoided == tuple(node for node in "abc" if failures.count(node) >= 2)


def test_it_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    faults = NodeFaults()
    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            faults.add("0123456789abcdef", "the disk is full")
    (record,) = caplog.records
    assert record.message == "warning: no further trial starts on node 0123456789ab: the disk is full"


@pytest.mark.usefixtures("cluster")
def test_a_study_ends_where_every_node_is_avoided() -> None:
    here = ray.get_runtime_context().get_node_id()
    faults = NodeFaults()
    for node in ("0" * 56, "0" * 56, here):
        faults.add(node, "the disk is full")
        faults.check(ONE_CPU)
    faults.add(here, "the store is gone; copy it again")
    assert faults.are_everywhere(ONE_CPU)
    with pytest.raises(UserError) as ended:
        faults.check(ONE_CPU)
    assert str(ended.value) == (
        "the store is gone; copy it again; then continue the study by --resume: its trials wait for it"
    )


@pytest.mark.usefixtures("cluster")
def test_nodes_that_may_be_added_count(monkeypatch: pytest.MonkeyPatch) -> None:
    here = ray.get_runtime_context().get_node_id()
    faults = NodeFaults()
    for _ in range(2):
        faults.add(here, "the disk is full")
    monkeypatch.setenv("OSSNET_AUTOSCALED_NODES", '[{"count": 1, "resources": {"CPU": 8.0, "GPU": 0.0}}]')
    assert find_hosts(ONE_CPU.can_run_on).count == 2
    assert not faults.are_everywhere(ONE_CPU)
    for _ in range(2):
        faults.add("f" * 56, "the disk is full")  # the one that was added, and is gone again
    assert faults.are_everywhere(ONE_CPU)


def test_only_nodes_with_room_for_a_trial_count() -> None:
    head, worker, gpus = {"CPU": 0.0}, {"CPU": 4.0}, {"CPU": 16.0, "GPU": 1.0}
    assert [ONE_CPU.can_run_on(node) for node in (head, worker, gpus)] == [False, True, True]
    sharing = plan_trials([head, worker, gpus], 1, gpu_gib=24)
    assert [sharing.can_run_on(node) for node in (head, worker, gpus)] == [False, False, True]
    assert sharing.can_run_on({"CPU": 1.0, "GPU": 1.0})


def test_the_selector_lists_the_avoided() -> None:
    assert avoiding([]) is None
    assert avoiding(["a" * 56, "b" * 56]) == {"ray.io/node-id": f"!in({'a' * 56},{'b' * 56})"}
