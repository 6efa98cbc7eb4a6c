"""A step of an optimizer on fake tensors, on few of its parameters."""

from collections import Counter

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ossnet.memory import PeakMemory, track_peak
from ossnet.models.kernels._fake import FakeTensorMode
from ossnet.planning.fake_optimizer import LargestSteps, make_state
from ossnet.training.config import OptimizerConfig
from ossnet.training.optimizer import Optimizer, build_optimizer, state_tensors

SHAPES = st.lists(st.lists(st.integers(1, 700), max_size=2), min_size=1, max_size=12)


class Network(nn.Module):
    """Parameters of these shapes, every third of them a Padé coefficient."""

    def __init__(self, shapes: list[list[int]]) -> None:
        super().__init__()
        for place, shape in enumerate(shapes):
            name = "numerator" if place % 3 == 1 else f"weight{place}"
            part = nn.Module()
            # as those of Padé are, of several lengths: a constant has values among fake tensors, too
            value = torch.tensor([0.0] * (place + 1)) if name == "numerator" else torch.zeros(shape)
            part.register_parameter(name, nn.Parameter(value))
            self.add_module(str(place), part)
        for parameter in self.parameters():
            parameter.grad = torch.zeros_like(parameter)


def peak_of_step(network: Network, optimizer: Optimizer, *, on_few: bool) -> PeakMemory:
    resident = {"parameters": network.parameters(), "state": state_tensors(optimizer)}
    with track_peak("cpu", resident=resident) as peak:
        (LargestSteps(optimizer) if on_few else optimizer).step()
    return peak.memory


@given(SHAPES, st.sampled_from(["adamw", "lookahead-radam", "sgd"]), st.sampled_from([1, 5]))
@settings(max_examples=40, deadline=None)
def test_few_parameters_have_the_peak_of_all(shapes: list[list[int]], name: str, pull: int) -> None:
    config = OptimizerConfig(name=name, lookahead_steps=pull)  # type: ignore[arg-type]
    with FakeTensorMode():
        network = Network(shapes)
        whole, few = build_optimizer(network, config), build_optimizer(network, config)
        whole.step()
        make_state(few)
        kept = [Counter((each.shape, each.dtype) for each in state_tensors(one)) for one in (whole, few)]
        assert kept[0] == kept[1]
        assert peak_of_step(network, few, on_few=True) == peak_of_step(network, whole, on_few=False)
        assert [group["params"] for group in few.param_groups] == [
            group["params"] for group in whole.param_groups
        ]
