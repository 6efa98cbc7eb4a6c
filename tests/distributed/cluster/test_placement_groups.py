"""Placement groups without a creator are found and freed, others left alone."""

import time

import pytest
import ray
from ray.util.placement_group import placement_group

from ossnet.distributed.cluster.placement_groups import remove_orphaned_groups


@ray.remote(num_cpus=0)
class Creator:
    def take_a_cpu(self) -> str:
        self.group = placement_group([{"CPU": 1}])
        ray.get(self.group.ready())
        return self.group.id.hex()


def state_of(group: str) -> str:
    return ray.util.placement_group_table()[group]["state"]


@pytest.mark.usefixtures("cluster")
def test_only_orphans_are_freed() -> None:
    living, dying = Creator.remote(), Creator.remote()
    kept, orphaned = ray.get([living.take_a_cpu.remote(), dying.take_a_cpu.remote()])
    assert remove_orphaned_groups() == 0
    ray.kill(dying)
    patience = time.monotonic() + 30
    while remove_orphaned_groups() == 0:
        assert time.monotonic() < patience
        time.sleep(0.05)
    assert state_of(orphaned) == "REMOVED"
    assert state_of(kept) == "CREATED"
    ray.kill(living)
    while remove_orphaned_groups() == 0:
        assert time.monotonic() < patience
        time.sleep(0.05)
