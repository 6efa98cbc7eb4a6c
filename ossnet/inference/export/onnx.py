"""Networks as ONNX, for what runs without this package: encoder and decoder, or a whole U-Net.

Letters: C channels, N points, P patch edge, K logits, X Y Z voxel axes of the working volume.
"""

import copy
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ossnet.config_tree import to_dict
from ossnet.errors import UserError
from ossnet.inference.predictor import Predictor
from ossnet.inference.query.grid import prediction_grid
from ossnet.models import DenseNetwork, OccupancyNetwork
from ossnet.models.exportable import PlainDecoder, PlainEncoder
from ossnet.output.atomic_write import atomic_path, atomic_write
from ossnet.sampling.grid import Shape

_SOME_POINTS = 3


@dataclass(frozen=True)
class _Graph:
    """A graph to write to a file."""

    module: nn.Module
    inputs: Mapping[str, Any]
    outputs: Sequence[str]
    dynamic: Mapping[str, Any] | None = None


def export_onnx(predictor: Predictor, output: Path) -> list[Path]:
    """Write `encoder.onnx` and `decoder.onnx` (of a U-Net `network.onnx`) and `network.json`.

    The graphs take one preprocessed volume in the frame of the working shape and, at once, any number of its
    points: `coordinates` `[1 N 3]` from -1 at the first voxel's center to 1 at the last one's, and `patches`
    `[1 N C P P P]` around them. The JSON holds the configuration, the task, and the names of inputs and
    outputs.

    Returns:
        The files written.

    Raises:
        UserError: the packages for it are not installed.
    """
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        where, expected, found = "onnx", "the packages onnx and onnxscript", f"no {missing[0]}"
        raise UserError(where, expected=expected, found=found, remedy="install ossnet[onnx]")
    network = copy.deepcopy(predictor.network).cpu().float().eval()
    assert isinstance(network, OccupancyNetwork | DenseNetwork)
    shape = prediction_grid(network.config, (1, 1, 1), predictor.sampling.working_shape)
    graphs = _of_dense(network, shape) if isinstance(network, DenseNetwork) else _of_occupancy(network, shape)
    written = [_write(output / f"{name}.onnx", graph) for name, graph in graphs.items()]
    written.append(output / "network.json")
    about = {
        "model": to_dict(network.config),
        "task": predictor.task.to_dict(),
        "working_shape": shape,
        "temperature": predictor.temperature,
        "inputs": {name: list(graph.inputs) for name, graph in graphs.items()},
        "outputs": {name: list(graph.outputs) for name, graph in graphs.items()},
    }
    atomic_write(written[-1], json.dumps(about, indent=2))
    return written


def _of_dense(network: DenseNetwork, shape: Shape) -> dict[str, _Graph]:
    dims = network.config.spatial_dims
    image = torch.zeros(1, network.config.in_channels, *shape[:dims])
    return {"network": _Graph(network, {"image": image}, ["logits"])}


def _of_occupancy(network: OccupancyNetwork, shape: Shape) -> dict[str, _Graph]:
    config, encoder = network.config, PlainEncoder(network)
    image = torch.zeros(1, config.in_channels, *shape)
    with torch.no_grad():
        latent, *rest = encoder(image)
    maps = rest[1:] if config.auxiliary_head else rest
    names = [f"map{index}" for index in range(len(maps))]
    coarse = ["coarse"] if config.auxiliary_head else []
    points = torch.export.Dim("points", min=1)
    inputs: dict[str, Any] = {"latent": latent, "coordinates": torch.zeros(1, _SOME_POINTS, 3)}
    dynamic: dict[str, Any] = {"latent": None, "coordinates": {1: points}}
    if config.patch_channels:
        edges = (config.patch_edge,) * 3
        inputs["patches"] = torch.zeros(1, _SOME_POINTS, config.patch_channels, *edges)
        dynamic["patches"] = {1: points}
    inputs |= dict(zip(names, maps, strict=True))
    dynamic |= dict.fromkeys(names)
    decoder = _Flat(PlainDecoder(network, shape), with_patches=bool(config.patch_channels))
    return {
        "encoder": _Graph(encoder, {"image": image}, ["latent", *coarse, *names]),
        "decoder": _Graph(decoder, inputs, ["logits"], dynamic),
    }


class _Flat(nn.Module):
    """The decoder with its inputs as one flat list, as a graph has them."""

    def __init__(self, decoder: PlainDecoder, *, with_patches: bool) -> None:
        super().__init__()
        self.decoder = decoder
        self.with_patches = with_patches

    def forward(self, latent: Tensor, coordinates: Tensor, *others: Tensor) -> Tensor:
        patches, maps = (others[0], others[1:]) if self.with_patches else (None, others)
        return self.decoder(latent, coordinates, patches, maps)


def _write(path: Path, graph: _Graph) -> Path:
    """Write one graph, atomically."""
    shapes = None
    if graph.dynamic is not None:
        first, second, *others = graph.dynamic.values()
        shapes = (first, second, *([tuple(others)] if others else []))
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of each package that it does not need
    with torch.no_grad():
        program = torch.onnx.export(
            graph.module.eval(),
            tuple(graph.inputs.values()),
            dynamo=True,
            verbose=False,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_shapes=shapes,
        )
    assert program is not None
    with atomic_path(path) as partial:
        program.save(partial, external_data=False)
    return path
