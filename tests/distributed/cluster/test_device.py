"""What a job of a machine without a GPU is planned for."""

import json

import pytest
import torch

from ossnet.distributed.cluster.device import training_device
from ossnet.planning.configure.recipe import Device

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU of its own")


def test_without_a_cluster_it_is_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("OSSNET_AUTOSCALED_NODES", json.dumps([{"count": 1, "resources": {"GPU": 1}}]))
    assert training_device() == Device("cpu")


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    ("types", "device"),
    [
        ([{}], Device("cpu")),
        ([{"GPU": 1, "accelerator_type:L4": 1}], Device("cuda", bf16=True)),
        ([{"GPU": 1, "accelerator_type:L4": 1}, {"GPU": 4, "accelerator_type:T4": 1}], Device("cuda")),
        ([{"GPU": 1}], Device("cuda")),
    ],
)
def test_on_a_cluster_it_is_its_gpus(
    types: list[dict[str, int]], device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head without a GPU has trials of GPUs planned, in bfloat16 where all of them multiply in it."""
    kinds = [{"count": 2, "resources": {"CPU": 4, **each}} for each in types]
    monkeypatch.setenv("OSSNET_AUTOSCALED_NODES", json.dumps(kinds))
    monkeypatch.setenv("RAY_ADDRESS", "auto")  # of the cluster that this test is connected to
    assert training_device() == device
