"""Whether a device makes the CPU's batches, logits and gradients.

Letters: B batch, N points, K classes.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from ossnet.benchmarks.gpu.results import ParityRow, Problem
from ossnet.benchmarks.gpu.sizes import Sizes
from ossnet.benchmarks.gpu.study import make_study, problem
from ossnet.config import Config
from ossnet.data import Store
from ossnet.memory.device import resolve_device
from ossnet.models import OccupancyConfig, network_from_config
from ossnet.models.kernels.precision import autocast
from ossnet.sampling.batch import Batch
from ossnet.sampling.loader import load_volumes
from ossnet.sampling.transforms import planes
from ossnet.training.step import batch_loss
from ossnet.training_run import run_batch_maker, run_order

PART = "parity"
AUGMENTATIONS: dict[str, dict[str, Any]] = {
    "intensities": {
        "augmentation.probability": 0.7,
        "augmentation.gamma": 0.3,
        "augmentation.bias_field": 0.3,
        "augmentation.modality_dropout": 0.2,
    },
    "rotations": {"augmentation.probability": 0.7, "augmentation.rotation": 10.0},
}
EQUAL = ("coordinates", "labels", "coarse_labels")
"""Tensors that must be the same on all devices."""
FLOAT16_UNIT = 2e-3
TOLERANCES = {"float32": {"logits": 1e-4, "gradients": 1e-3}, "bf16": {"logits": 0.05, "gradients": 0.2}}
"""Of a network in this precision on the device, against float32 on the CPU."""
_STEPS, _CASES, _POINTS = 2, 4, 2048


def compare(sizes: Sizes, device: str) -> Iterator[ParityRow | Problem]:
    """Compare batches and networks of all presets with the CPU's."""
    place = resolve_device(device)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    with TemporaryDirectory(prefix="ossnet-gpu-") as folder:
        store = make_study(folder, sizes.parity_shape, _CASES)
        for name in sizes.networks:
            for work in (_compare_batches, _compare_network):
                try:
                    yield from work(_configure(name, store, sizes), store, place)
                except Exception:
                    yield problem(PART, f"{name}, {work.__name__.removeprefix('_compare_')}")


def _configure(name: str, store: Store, sizes: Sizes) -> Config:
    changes: dict[str, Any] = {"sampling.points": min(sizes.points, _POINTS), "training.batch_size": 2}
    config = Config.preset(name, store)
    if isinstance(config.model, OccupancyConfig):
        changes |= {"sampling.border_fraction": 0.3, "sampling.gaussian_fraction": 0.3}
    return config.replace(changes).resolve_for(store)


def _compare_batches(config: Config, store: Store, device: torch.device) -> Iterator[ParityRow]:
    for options, changes in AUGMENTATIONS.items():
        changed = config.replace(changes)
        expected = _batches(changed, store, torch.device("cpu"))
        with _device_way(device):
            found = _batches(changed, store, device)
        errors: dict[str, float] = {}
        for one, other in zip(expected, found, strict=True):
            for name, error in _batch_errors(one, other).items():
                errors[name] = max(error, errors.get(name, 0.0))
        for name, error in errors.items():
            tolerance = 0.0 if name in EQUAL else FLOAT16_UNIT
            yield ParityRow("batch", config.model.name, options, name, error, tolerance)


def _device_way(device: torch.device) -> AbstractContextManager[object]:
    """Where the device is a CPU, the way that other devices take is compared with a CPU's own."""
    if device.type != "cpu":
        return nullcontext()
    return patch.object(planes, "on_cpu", lambda _: False)


def _batches(config: Config, store: Store, device: torch.device) -> list[Batch]:
    make = run_batch_maker(config, store.task, device=device)
    steps = list(islice(run_order(store, config.training), _STEPS))
    return [make(volumes) for volumes in load_volumes(steps, store.case)]


def _batch_errors(expected: Batch, found: Batch) -> dict[str, float]:
    """The largest error of each tensor, infinite where one is missing or of another form."""
    errors = {}
    for name, one in vars(expected).items():
        if isinstance(one, Tensor):
            other = getattr(found, name)
            same = isinstance(other, Tensor) and (one.shape, one.dtype) == (other.shape, other.dtype)
            errors[name] = _largest_error(one, other.cpu()) if same else float("inf")
    return errors


def _largest_error(expected: Tensor, found: Tensor) -> float:
    one, other = expected.double(), found.double()
    return float(((one - other).abs() / one.abs().clamp(min=1)).max())


def _compare_network(config: Config, store: Store, device: torch.device) -> Iterator[ParityRow]:
    batch = _batches(config, store, torch.device("cpu"))[0]
    torch.manual_seed(0)
    network = network_from_config(config.model).train()
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    expected = _results(network, batch, config, "float32")
    for precision, tolerances in TOLERANCES.items():
        network.load_state_dict(weights)  # statistics of batches too
        found = _results(network.to(device), batch.to(device), config, precision)
        for name, tolerance in tolerances.items():
            error = float((found[name] - expected[name]).norm() / expected[name].norm())
            yield ParityRow("network", config.model.name, precision, name, error, tolerance)
        network.cpu()


def _results(network: nn.Module, batch: Batch, config: Config, precision: str) -> dict[str, Tensor]:
    """The logits of a batch, and all gradients in one, on the CPU."""
    logits = list[Tensor]()
    hook = network.register_forward_hook(
        lambda _network, _inputs, output: logits.append(
            output if isinstance(output, Tensor) else output.logits
        )
    )
    network.zero_grad()
    device = next(network.parameters()).device
    with autocast(device, precision):
        loss = batch_loss(network, batch, config.loss)
    loss.backward()
    hook.remove()
    gradients = [each.grad for each in network.parameters() if each.grad is not None]
    return {
        "logits": logits[0].detach().double().cpu(),
        "gradients": torch.cat([each.flatten() for each in gradients]).double().cpu(),
    }
