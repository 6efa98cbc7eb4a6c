"""Lookahead by hand, parameter groups, schedules, and continuing from a saved state."""

import io

import pytest
import torch
from torch import nn

from ossnet.training.optimizer import (
    Lookahead,
    OptimizerConfig,
    build_optimizer,
    lr_factor,
    set_lr,
    state_tensors,
)


def test_lookahead_pulls_after_steps_1_6_11_towards_weights_that_start_at_step_1() -> None:
    weight = nn.Parameter(torch.zeros(1))
    ahead = Lookahead(torch.optim.SGD([weight], lr=1.0), steps=5, alpha=0.8)
    trace = []
    for _ in range(6):
        weight.grad = torch.full((1,), -1.0)
        ahead.step()
        trace.append(float(weight))
    # Fast weights go 1 2 3 4 5 6; the slow ones start at 1, so the pull gives 0.8 * 6 + 0.2 * 1.
    assert trace == pytest.approx([1, 2, 3, 4, 5, 5.0])


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.numerator = nn.Parameter(torch.ones(6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) * self.numerator.sum()


def test_pade_coefficients_have_their_own_rate_and_never_decay() -> None:
    config = OptimizerConfig(learning_rate=0.1, pade_learning_rate=0.5, weight_decay=0.3)
    groups = build_optimizer(Net(), config).param_groups
    assert [(g["lr"], g["weight_decay"], sum(p.numel() for p in g["params"])) for g in groups] == [
        (0.1, 0.3, 8),
        (0.5, 0.0, 6),
    ]


@pytest.mark.parametrize("name", ["lookahead-radam", "adamw", "sgd"])
def test_a_saved_optimizer_continues_as_if_never_stopped(name: str) -> None:
    def run(steps: range, net: nn.Module, optimizer: object) -> None:
        for step in steps:
            optimizer.zero_grad()
            net(torch.full((4, 3), float(step % 3))).square().mean().backward()
            optimizer.step()

    config = OptimizerConfig(name=name, learning_rate=1e-4 if name == "sgd" else 0.01)
    torch.manual_seed(0)
    straight = Net()
    optimizer = build_optimizer(straight, config)
    run(range(8), straight, optimizer)
    weights, state = straight.state_dict(), optimizer.state_dict()
    weights = {key: value.clone() for key, value in weights.items()}
    again = Net()
    again.load_state_dict(weights)
    resumed = build_optimizer(again, config)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    resumed.load_state_dict(torch.load(buffer, weights_only=True))
    run(range(8, 20), straight, optimizer)
    run(range(8, 20), again, resumed)
    for key, value in straight.state_dict().items():
        assert torch.equal(value, again.state_dict()[key])


def test_resident_counts_moments_and_slow_weights() -> None:
    net = Net()
    optimizer = build_optimizer(net, OptimizerConfig())
    assert state_tensors(optimizer) == []
    net(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    numbers = sum(tensor.numel() for tensor in state_tensors(optimizer))
    steps = len(list(net.parameters()))
    assert numbers == 3 * sum(p.numel() for p in net.parameters()) + steps


def test_schedules() -> None:
    paper = OptimizerConfig()
    assert [lr_factor(share, paper) for share in (0, 0.39, 0.4, 0.6)] == pytest.approx([1, 1, 0.1, 0.01])
    cosine = OptimizerConfig(schedule="cosine")
    assert [lr_factor(share, cosine) for share in (0, 0.5, 1.2)] == pytest.approx([1, 0.5, 0])
    polynomial = OptimizerConfig(schedule="polynomial")
    assert [lr_factor(share, polynomial) for share in (0, 0.5, 1.2)] == pytest.approx([1, 0.5**0.9, 0])
    optimizer = build_optimizer(Net(), paper)
    set_lr(optimizer, 0.5, paper)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([3e-5, 3e-5])
