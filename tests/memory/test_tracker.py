"""The tracker against byte counts done by hand, in multiples of 512 bytes unless rounding is the point."""

import gc
from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ossnet.memory import PROTOCOL, track_peak
from ossnet.models.kernels._fake import FakeTensorMode

K = 1024


def kib(n: int) -> Tensor:
    return torch.zeros(n * K // 4)


def resident(network: nn.Module, optimizer: torch.optim.Optimizer, image: Tensor) -> dict[str, list[Tensor]]:
    return {
        "parameters": [*network.parameters(), *network.buffers()],
        "optimizer_state": [value for state in optimizer.state.values() for value in state.values()],
        "batch": [image],
    }


def test_temporaries_are_freed_when_nobody_holds_them() -> None:
    with track_peak("cpu") as peak:
        a = kib(4)
        b = a + 1  # 8 KiB live
        del a
        c = b * 2  # 8 KiB again
        _ = (c + 1) + 1  # 16 KiB: b, c, the inner and the outer sum
    assert peak.allocated == 16 * K
    assert peak.reserved == peak.allocated


def test_views_and_in_place_operations_take_nothing() -> None:
    with track_peak("cpu") as peak:
        a = kib(4)
        a.view(2, -1).t().add_(1)
        torch.mul(a, 2, out=a)
    assert peak.allocated == 4 * K


def test_blocks_of_512_bytes() -> None:
    with track_peak("cpu") as peak:
        held = [torch.zeros(1), torch.zeros(129)]
    assert peak.allocated == 512 + 1024
    del held


def test_arrays_and_out_arguments_are_seen() -> None:
    array = np.zeros(K // 4, np.float32)
    with track_peak("cpu") as peak:
        a = torch.from_numpy(array)
        out = torch.empty(0)
        torch.add(a, 1, out=out)  # resized by the operation
    assert peak.allocated == 2 * K


def test_many_short_lives_do_not_add_up() -> None:
    with track_peak("cpu") as peak:
        for _ in range(300):
            kib(4).add(1).mul_(2)
    assert peak.allocated == 8 * K


def test_residents_count_before_they_are_used() -> None:
    late = kib(8)
    with track_peak("cpu", resident=[late, late.view(-1)]) as peak:
        kib(4)
        late.add_(1)
    assert peak.allocated == 12 * K
    assert dict(peak.memory.parts) == {"resident": 8 * K, "workspace": 4 * K}


def test_linear_step_by_hand() -> None:
    """B 64, in 32, out 16, float32. Weight 2 KiB, momentum 2 KiB, batch 8 KiB, output 4 KiB.

    The backward pass is the peak: the output (still named), its sum (512 B), the seed gradient (512 B) and
    the weight's gradient (2 KiB) live together; the gradient of the output is a view of the seed.
    """
    network = nn.Linear(32, 16, bias=False)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, foreach=False)
    image = torch.randn(64, 32)

    def step() -> None:
        optimizer.zero_grad()
        output = network(image)
        output.sum().backward()
        optimizer.step()

    step()
    with track_peak("cpu", resident=resident(network, optimizer, image)) as peak:
        step()
    expected = {
        "parameters": 2 * K,
        "optimizer_state": 2 * K,
        "batch": 8 * K,
        "gradients": 2 * K,
        "workspace": 4 * K + 512 + 512,
    }
    memory = peak.memory
    assert dict(memory.parts) == expected
    assert memory.allocated == sum(expected.values())
    assert memory.protocol == PROTOCOL
    assert memory.versions["torch"] == torch.__version__


class _Inner(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, x])


class _Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = _Inner()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return x + 1, self.inner(x), x * 2


def test_what_a_module_makes_is_charged_to_it_and_not_to_its_caller() -> None:
    outer, x = _Outer(), kib(4)
    with track_peak("cpu", resident=[x], modules={"whole": [outer], "part": [outer.inner]}) as peak:
        made = [*outer(x), kib(2)]
    assert dict(peak.memory.parts) == {"resident": 4 * K, "whole": 8 * K, "part": 8 * K, "workspace": 2 * K}
    assert len(made) == 4
    assert not outer._forward_hooks
    assert not outer.inner._forward_pre_hooks


def test_a_module_that_fails_charges_nothing_after_it() -> None:
    outer = _Outer()
    with track_peak("cpu", modules={"whole": [outer]}) as peak:
        with suppress(TypeError):
            outer(None)
        kib(2)
    assert dict(peak.memory.parts) == {"workspace": 2 * K}


def test_adam_state_made_inside_the_block_is_seen() -> None:
    weight = nn.Parameter(kib(4))
    optimizer = torch.optim.Adam([weight], foreach=False)
    weight.grad = kib(4)
    with track_peak("cpu", resident=[weight, weight.grad]) as peak:
        optimizer.step()
    # weight, gradient, two moments, the step count and the temporaries of one update
    assert 16 * K + 512 <= peak.allocated <= 24 * K + 512


class _SavesOnlyItsInput(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x)
        return x * 2 + 1

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        (x,) = ctx.saved_tensors
        scratch = [x + i for i in range(4)]
        return grad * scratch[0]


def test_custom_function_and_the_scratch_of_its_backward() -> None:
    x = kib(4).requires_grad_()
    with track_peak("cpu", resident=[x]) as forward:
        y = _SavesOnlyItsInput.apply(x)
    assert forward.allocated == 12 * K  # x, x * 2, x * 2 + 1
    gradient = kib(4)
    with track_peak("cpu", resident=[x, y, gradient]) as backward:
        y.backward(gradient)
    assert (
        backward.allocated == (4 + 4 + 4 + 16 + 4) * K
    )  # the scratch and the result in addition to the residents


def test_leaves_no_hook_and_no_watch_behind() -> None:
    network = nn.Linear(8, 8)
    for _ in range(3):
        with track_peak("cpu", resident=network.parameters()) as peak:
            network(torch.zeros(1, 8)).sum().backward()
    assert all(not each._post_accumulate_grad_hooks for each in network.parameters())
    frozen = peak.memory
    network.zero_grad()
    gc.collect()
    assert peak.memory is frozen


def test_known_even_when_the_block_fails() -> None:
    peak = track_peak("cpu")
    with suppress(ZeroDivisionError), peak:
        _ = kib(4) / (1 // 0)
    assert peak.allocated == 4 * K


def test_not_known_inside() -> None:
    with track_peak("cpu") as peak, pytest.raises(RuntimeError, match="ended"):
        _ = peak.allocated


def _peak_of_training(widths: list[int], batch: int, convolution: bool) -> tuple[int, dict[str, int]]:
    layers: list[nn.Module] = [nn.Conv3d(1, 3, 3, padding=1), nn.BatchNorm3d(3), nn.ReLU(), nn.Flatten()]
    size = 3 * 4**3
    network = nn.Sequential(*(layers if convolution else [nn.Flatten(), nn.Linear(4**3, size)]))
    for width in widths:
        network.extend([nn.Linear(size, width), nn.ReLU()])
        size = width
    optimizer = torch.optim.RAdam(network.parameters(), foreach=False)
    image = torch.zeros(batch, 1, 4, 4, 4)

    def step() -> None:
        optimizer.zero_grad()
        network(image).square().mean().backward()
        optimizer.step()

    step()
    with track_peak("cpu", resident=resident(network, optimizer, image)) as peak:
        step()
    return peak.allocated, dict(peak.memory.parts)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(1, 300), max_size=4), st.integers(2, 64), st.booleans())
def test_fake_tensors_give_the_same_figure(widths: list[int], batch: int, convolution: bool) -> None:
    real, parts = _peak_of_training(widths, batch, convolution)
    with FakeTensorMode():
        assert _peak_of_training(widths, batch, convolution) == (real, parts)
    assert sum(parts.values()) == real


def test_fake_tensors_need_no_memory() -> None:
    with FakeTensorMode(), track_peak("cpu") as peak:
        huge = torch.empty(2**40)
        huge + 1
    assert peak.allocated == 2 * 4 * 2**40
    assert peak.memory.device == "cpu (fake)"


def test_agrees_with_what_the_allocator_hands_out() -> None:
    """The profiler sees every allocation of the process; matrix products keep no workspace of their own."""
    layers = [layer for _ in range(4) for layer in (nn.Linear(128, 128), nn.Softplus())]
    network, image = nn.Sequential(*layers), torch.randn(1000, 128)

    def step() -> None:
        network(image).square().mean().backward()

    step()
    network.zero_grad()
    with torch.profiler.profile(profile_memory=True) as profiler:
        step()
    results = profiler.profiler.kineto_results.events()  # type: ignore[union-attr]
    events = sorted(
        (event.start_ns(), place, event.nbytes())
        for place, event in enumerate(results)
        if event.name() == "[memory]"
    )
    handed_out = max(np.cumsum([size for *_, size in events]))
    network.zero_grad()
    resident = [*network.parameters(), image]
    with track_peak("cpu", resident=resident) as peak:
        step()
    own = peak.allocated - peak.memory.parts["resident"]
    assert own == pytest.approx(handed_out, rel=0.01)


@pytest.mark.gpu
def test_cuda_counts_the_same_as_the_cpu() -> None:
    def step(device: str) -> int:
        network = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 256)).to(device)
        image = torch.zeros(2048, 256, device=device)
        network(image).sum().backward()  # loads the libraries, whose workspaces stay
        network.zero_grad()
        if device == "cuda":
            torch._C._cuda_clearCublasWorkspaces()
        with track_peak(device, resident=[*network.parameters(), image]) as peak:
            network(image).sum().backward()
        return peak.allocated

    # cuBLAS keeps a workspace of its own, at most 33 MiB
    assert 0 <= step("cuda") - step("cpu") < 33 * 2**20
