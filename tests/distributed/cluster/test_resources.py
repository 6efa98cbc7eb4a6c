"""What workers and trials request: always something that can be given, or an error with the arithmetic."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossnet.distributed.cluster.resources import (
    TrialPlacement,
    WorkerResources,
    capacity,
    describe_workers,
    plan_run,
    plan_trials,
)
from ossnet.errors import UserError
from ossnet.planning.margin import MARGIN

CLUSTERS = st.lists(
    st.fixed_dictionaries({"CPU": st.integers(0, 64).map(float), "GPU": st.integers(0, 8).map(float)}),
    min_size=1,
    max_size=5,
)


@given(nodes=CLUSTERS, workers=st.integers(1, 20))
def test_a_run_gets_what_fits_or_is_rejected(nodes: list[dict[str, float]], workers: int) -> None:
    gpus = any(node["GPU"] for node in nodes)
    smallest = WorkerResources(1, int(gpus))
    if capacity(nodes, smallest) < workers:
        with pytest.raises(UserError, match=f"{describe_workers(workers)} of {smallest}"):
            plan_run(nodes, workers)
        return
    resources = plan_run(nodes, workers)
    assert capacity(nodes, resources) >= workers
    assert resources.gpus == gpus


@given(nodes=CLUSTERS, fewest=st.integers(1, 10), more=st.integers(1, 10))
def test_a_run_whose_workers_come_and_go_has_as_many_as_possible(
    nodes: list[dict[str, float]], fewest: int, more: int
) -> None:
    possible = capacity(nodes, WorkerResources(1, int(any(node["GPU"] for node in nodes))))
    if possible < fewest:
        with pytest.raises(UserError, match=f"{describe_workers(fewest)} of"):
            plan_run(nodes, (fewest, fewest + more))
        return
    resources = plan_run(nodes, (fewest, fewest + more))
    assert resources == plan_run(nodes, min(possible, fewest + more))


@given(nodes=CLUSTERS, workers=st.integers(1, 6))
def test_trials_side_by_side_fit(nodes: list[dict[str, float]], workers: int) -> None:
    try:
        plan = plan_trials(nodes, workers)
    except UserError:
        return
    assert plan.concurrent >= 1
    assert plan.concurrent * workers <= capacity(nodes, plan.resources)
    assert plan.resources.gpus == any(node["GPU"] for node in nodes)


@given(
    nodes=CLUSTERS,
    gpu_gib=st.floats(1, 200),
    peak_gib=st.floats(0.001, 300),
)
def test_a_trial_gets_the_part_of_a_gpu_that_it_needs_and_can_always_be_placed(
    nodes: list[dict[str, float]], gpu_gib: float, peak_gib: float
) -> None:
    try:
        plan = plan_trials(nodes, 1, gpu_gib=gpu_gib)
    except UserError:
        return
    resources = plan.resources_for(peak_gib)
    assert 1 <= capacity(nodes, resources) <= plan.concurrent
    if plan.sharing is None:
        assert not any(node["GPU"] for node in nodes)
        return
    assert 0 < resources.gpus <= 1
    assert resources.gpus * 20 == pytest.approx(
        round(resources.gpus * 20)
    )  # processes with equal shares are reused
    if peak_gib <= plan.sharing.capacity_gib:
        assert MARGIN.needed(round(peak_gib * 2**30)) <= resources.gpus * gpu_gib * 2**30 * (1 + 1e-9)
    else:
        assert resources.gpus == 1


def most_at_once(plan: TrialPlacement, peak_gib: float | None) -> int:
    """How many trials with this predicted peak are suggested before one of them ends."""
    return next(number for number in range(100) if plan.is_full([peak_gib] * number))


def test_small_trials_share_a_gpu_and_large_ones_do_not() -> None:
    machine = [{"CPU": 16.0, "GPU": 2.0}]
    plan = plan_trials(machine, 1, gpu_gib=24)
    assert plan.sharing is not None
    assert plan.resources_for(1.0) == WorkerResources(
        1, 0.1
    )  # 1.15 GiB and 0.8 GB for its context are 8 % of 24 GiB
    assert plan.resources_for(5.0) == WorkerResources(2, 0.3)
    assert plan.resources_for(20.0) == WorkerResources(4, 1)
    assert plan.resources_for(None) == WorkerResources(4, 1)
    assert [capacity(machine, plan.resources_for(gib)) for gib in (1.0, 5.0, 20.0)] == [16, 6, 2]
    assert [most_at_once(plan, gib) for gib in (1.0, 5.0, 20.0, None)] == [16, 7, 2, 2]  # at most one waits
    assert plan.sharing.capacity_gib == pytest.approx(20.2, abs=0.1)


def test_the_workers_of_a_trial_take_whole_gpus_each() -> None:
    machine = [{"CPU": 16.0, "GPU": 4.0}]
    plan = plan_trials(machine, 2, gpu_gib=24)
    assert (plan.sharing, plan.resources, plan.concurrent) == (None, WorkerResources(4, 1), 2)
    assert plan.resources_for(1.0) == WorkerResources(4, 1)


def test_a_gpu_without_room_for_anything_is_rejected() -> None:
    with pytest.raises(
        UserError, match=r"a GPU of 0\.5 GiB: .* less than the margin alone \(1\.15 x peak \+ 0\.8 GB\)"
    ):
        plan_trials([{"CPU": 2.0, "GPU": 1.0}], 1, gpu_gib=0.5)


def test_a_lone_worker_takes_all_cpus_and_trials_one_each() -> None:
    laptop = [{"CPU": 8.0}]
    assert plan_run(laptop, 1) == WorkerResources(8)
    assert plan_run(laptop, 3) == WorkerResources(2)
    assert plan_trials(laptop, 1).concurrent == most_at_once(plan_trials(laptop, 1), 3.0) == 8
    assert plan_trials(laptop, 3).concurrent == 2


def test_on_gpus_a_worker_takes_one_and_a_few_cpus() -> None:
    cluster = [{"CPU": 4.0}, {"CPU": 32.0, "GPU": 4.0}, {"CPU": 4.0, "GPU": 2.0}]
    assert plan_run(cluster, 4) == WorkerResources(4, 1)
    assert plan_run(cluster, 6) == WorkerResources(2, 1)
    assert plan_trials(cluster, 1).resources == WorkerResources(
        2, 1
    )  # six slots, where four CPUs each would leave five


def test_the_error_says_the_arithmetic() -> None:
    with pytest.raises(UserError) as rejected:
        plan_trials([{"CPU": 2.0}, {"CPU": 16.0, "GPU": 1.0}], 2)
    assert str(rejected.value) == (
        "workers: expected room for 2 workers of 4 CPUs and 1 GPU each, found room for 1 on 2 nodes "
        "with 2 CPUs and 0 GPUs, 16 CPUs and 1 GPU; request fewer workers or a larger cluster"
    )
