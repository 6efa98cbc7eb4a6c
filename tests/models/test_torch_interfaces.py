"""Torch's private interfaces still do what ossnet/models/kernels/_torch.py and _fake.py say of them."""

import ast
import gc
import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from ossnet.models.kernels import _fake, _torch
from ossnet.models.kernels._fake import FakeTensorMode
from ossnet.models.kernels._torch import TorchDispatchMode

PACKAGE = Path(__file__).parents[2] / "ossnet"
PRIVATE = re.compile(r"\btorch(\.\w+)*\._[a-zA-Z]\w*|\btorch\.ops\b")


def test_fake_tensors_have_shapes_and_no_values() -> None:
    assert not _fake.fake_mode_is_on()
    with FakeTensorMode():
        assert _fake.fake_mode_is_on()
        tensor = torch.zeros(2**20, 2**20, 2**10)
        assert _fake.is_fake(tensor)
        assert (tensor + 1).shape == tensor.shape
        assert _fake.is_fake(tensor[0])
    assert not _fake.fake_mode_is_on()
    assert not _fake.is_fake(torch.zeros(1))


def _chain(volume: torch.Tensor, layer: nn.Module) -> list[torch.Tensor]:
    """Operations whose results are views, whole storages, several, in place, laid out by device."""
    mapped = layer(volume)
    halves = mapped.movedim(1, -1).chunk(2, -1)
    total = halves[0].contiguous().add_(1).flatten(1)
    return [mapped, *halves, total, total.max(1).values]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fake_tensors_have_the_geometry_of_real_ones(layout: torch.memory_format, dtype: torch.dtype) -> None:
    def results() -> list[tuple[object, ...]]:
        volume = torch.zeros(2, 4, 6, 8, 6, dtype=dtype).contiguous(memory_format=layout)
        layer = nn.Sequential(nn.Conv3d(4, 8, 3), nn.BatchNorm3d(8)).to(dtype)
        found = [volume, *_chain(volume, layer), torch.arange(0, 3, 0.5), torch.tensor([1, 2])]
        return [
            (each.shape, each.stride(), each.dtype, each.storage_offset(), each.untyped_storage().nbytes())
            for each in found
        ]

    with FakeTensorMode():
        fake = results()
    assert fake == results()


@given(
    st.lists(st.tuples(st.integers(1, 3), st.booleans()), max_size=4),
    st.sampled_from([torch.float32, torch.bfloat16, torch.int64]),
    st.sampled_from([torch.mul, torch.sub, torch.gt, torch.div, torch.maximum, torch.pow]),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_pointwise_results_have_the_geometry_of_real_ones(
    sizes: list[tuple[int, bool]], dtype: torch.dtype, function: Callable[..., torch.Tensor], turned: bool
) -> None:
    def result() -> tuple[object, ...]:
        one = torch.ones([size for size, _ in sizes])
        other = torch.ones([1 if broadcast else size for size, broadcast in sizes], dtype=dtype)
        found = function(one.transpose(0, -1) if turned and one.ndim > 1 else one, one if turned else other)
        return found.shape, found.stride(), found.dtype, found.untyped_storage().nbytes()

    assume(not turned or not sizes or sizes[0] == sizes[-1])
    with FakeTensorMode():
        fake = result()
    assert fake == result()


def test_what_fills_a_fake_tensor_gives_it_back_and_what_would_reshape_it_is_an_error() -> None:
    with FakeTensorMode():
        square, other = torch.zeros(2, 3, 3), torch.zeros(3, 1)
        key = _torch.storage_key(square.untyped_storage())
        assert square.mul_(other).add_(1) is square
        assert torch.mul(square, other, out=square) is square
        assert _torch.storage_key(square.untyped_storage()) == key
        for reshape in (lambda: square.transpose_(1, 2), lambda: square.unsqueeze_(0)):
            with pytest.raises(RuntimeError, match="shape or strides"):
                reshape()


def test_watchers_see_the_same_tensors_among_fake_ones() -> None:
    class Shapes(_fake.WatchingMode):
        def __init__(self) -> None:
            super().__init__()
            self.seen = Counter[torch.Size]()
            self.operations = 0

        def see(self, tensors: Iterable[torch.Tensor]) -> None:
            self.operations += 1
            self.seen.update(each.shape for each in tensors)

    def watched() -> list[Shapes]:
        volume, layer = torch.zeros(1, 4, 6, 8, 6), nn.Conv3d(4, 8, 3)
        with Shapes() as outer:
            _chain(volume, layer)[-1].sum().backward()
            with Shapes() as inner:
                layer(volume)
        _chain(volume, layer)
        return [outer, inner]

    real = watched()
    with FakeTensorMode():
        fake = watched()
    for one, other in zip(real, fake, strict=True):
        assert one.operations == other.operations > 0
        assert one.seen.keys() == other.seen.keys()


def test_a_fake_tensor_outside_its_mode_is_an_error() -> None:
    with FakeTensorMode():
        tensor = torch.zeros(3)
        with pytest.raises(RuntimeError):
            tensor.sum().item()
    for use in (torch.Tensor.exp, torch.Tensor.numpy, torch.Tensor.tolist, torch.Tensor.clone):
        with pytest.raises(RuntimeError):
            use(tensor)


def test_constants_keep_their_values_among_fake_tensors() -> None:
    with FakeTensorMode():
        steps = torch.tensor(1.0)
        steps += 1
        assert (steps * 2).item() == 4
        assert _fake.is_fake(torch.zeros(1) + steps)


def test_a_dispatch_mode_sees_every_operation_of_forward_and_backward_passes() -> None:
    seen = []

    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    assert not _torch.operations_are_watched()
    leaf = torch.ones(3, requires_grad=True)
    with Recorder():
        assert _torch.operations_are_watched()
        leaf.exp().sum().backward()
    assert not _torch.operations_are_watched()
    assert any("exp" in name for name in seen)
    assert any("mul" in name for name in seen)  # of the backward pass


def test_views_share_a_storage_key_and_living_storages_do_not() -> None:
    tensor, other = torch.zeros(4), torch.zeros(4)
    key = _torch.storage_key(tensor.untyped_storage())
    assert key == _torch.storage_key(tensor[1:].untyped_storage())
    gc.collect()
    assert key == _torch.storage_key(tensor.untyped_storage())
    assert key != _torch.storage_key(other.untyped_storage())


def test_the_limit_of_recompilations_only_rises() -> None:
    import torch._dynamo

    before = torch._dynamo.config.recompile_limit
    try:
        _torch.allow_recompilations(before + 5)
        assert torch._dynamo.config.recompile_limit == before + 5
        _torch.allow_recompilations(1)
        assert torch._dynamo.config.recompile_limit == before + 5
    finally:
        torch._dynamo.config.recompile_limit = before


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")
@pytest.mark.parametrize("bias", [True, False])
def test_onednn_convolves_and_differentiates_as_the_layer_does(bias: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Conv3d(2, 3, 3, padding=1, bias=bias)
    volume = torch.randn(1, 2, 5, 6, 7, requires_grad=True)
    plain, fast = layer(volume), _torch.onednn_convolution(layer, volume)
    torch.testing.assert_close(fast, plain, rtol=1e-5, atol=1e-5)
    inputs = [volume, *layer.parameters()]
    gradients = (torch.autograd.grad(result.square().sum(), inputs) for result in (plain, fast))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-4)


def test_no_other_file_uses_a_private_interface() -> None:
    found = []
    for path in PACKAGE.rglob("*.py"):
        if path.name in ("_torch.py", "_fake.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "torch":
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Attribute):
                names = [ast.unparse(node)]
            found += [f"{path.name}: {name}" for name in names if PRIVATE.match(name)]
    assert not found
