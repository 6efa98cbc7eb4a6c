"""Torch's private interfaces still do what ossnet/models/kernels/_torch.py says of them."""

import ast
import gc
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from ossnet.models.kernels import _torch
from ossnet.models.kernels._torch import FakeTensorMode, TorchDispatchMode

PACKAGE = Path(__file__).parents[2] / "ossnet"
PRIVATE = re.compile(r"\btorch(\.\w+)*\._[a-zA-Z]\w*|\btorch\.ops\b")


def test_fake_tensors_have_shapes_and_no_values() -> None:
    assert not _torch.fake_mode_is_on()
    with FakeTensorMode():
        assert _torch.fake_mode_is_on()
        tensor = torch.zeros(2**20, 2**20, 2**10)
        assert _torch.is_fake(tensor)
        assert (tensor + 1).shape == tensor.shape
        assert _torch.is_fake(tensor[0])
    assert not _torch.fake_mode_is_on()
    assert not _torch.is_fake(torch.zeros(1))


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
        if path.name == "_torch.py":
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
