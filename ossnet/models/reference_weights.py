"""Loading the authors' published checkpoints: their key names, our modules."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ossnet.models.occupancy import OccupancyNetwork

_RULES = (
    (r"^patch_encoder\.convolution1", r"decoder.patch_mapping.mapping.0"),
    (r"^patch_encoder\.activation1", r"decoder.patch_mapping.mapping.1"),
    (r"^patch_encoder\.convolution2", r"decoder.patch_mapping.mapping.3"),
    (r"^patch_encoder\.activation2", r"decoder.patch_mapping.mapping.4"),
    (r"^encoder\.auxiliary", r"encoder.segmentation_mapping.0"),
    (r"^encoder\.skips\.(\d+)\.convolution", r"encoder.output_mappings.\1.1"),
    (r"^encoder\.skips\.(\d+)\.normalization", r"encoder.output_mappings.\1.2"),
    (r"^encoder\.skips\.(\d+)\.activation", r"encoder.output_mappings.\1.3"),
    (r"^encoder\.latent\.convolution", r"encoder.final_mapping.0"),
    (r"^encoder\.latent\.normalization", r"encoder.final_mapping.1"),
    (r"^encoder\.latent\.activation", r"encoder.final_mapping.2"),
    (r"^(encoder\.blocks\.\d+)\.convolution1", r"\1.main_mapping.0"),
    (r"^(encoder\.blocks\.\d+)\.normalization1", r"\1.main_mapping.1"),
    (r"^(encoder\.blocks\.\d+)\.activation1", r"\1.main_mapping.2"),
    (r"^(encoder\.blocks\.\d+)\.convolution2", r"\1.main_mapping.5"),
    (r"^(encoder\.blocks\.\d+)\.normalization2", r"\1.main_mapping.6"),
    (r"^(decoder\.blocks\.\d+)\.linear(\d)", r"\1.linear_layer_\2"),
    (r"^(decoder\.blocks\.\d+)\.normalization(\d)\.(gamma|beta)", r"\1.cnb_\2.linear_\3"),
    (r"^(decoder\.blocks\.\d+)\.normalization(\d)", r"\1.cnb_\2.normalization"),
    (r"^(decoder\.blocks\.\d+)\.activation1", r"\1.activation"),
    (r"^(\w+\.blocks\.\d+)\.activation2", r"\1.final_activation"),
    (r"^(\w+\.blocks\.\d+)\.shortcut", r"\1.residual_mapping"),
    (r"^decoder\.output", r"decoder.final_mapping.0"),
    (r"\.(numerator|denominator)$", r".weight_\1"),
)


def reference_key(key: str) -> str:
    """The authors' name of one of our parameters or buffers."""
    for pattern, name in _RULES:
        key = re.sub(pattern, name, key)
    return key


def import_reference_weights(network: nn.Module, state_dict: Mapping[str, Tensor]) -> None:
    """Fill an occupancy network from a state dict of the authors' code, in place.

    Raises:
        ValueError: not an occupancy network; a key missing, unknown or of another shape (names the first);
            the network is then unchanged.
    """
    if not isinstance(network, OccupancyNetwork):
        msg = f"reference weights are for occupancy networks, found {type(network).__name__}"
        raise ValueError(msg)
    own = network.state_dict()
    names = {reference_key(key): key for key in own}
    for name in state_dict:
        if name not in names:
            msg = f"reference weights: unexpected key {name!r} for {network.config.name}"
            raise ValueError(msg)
    for name, key in names.items():
        _check(name, state_dict.get(name), own[key].shape)
    network.load_state_dict({key: state_dict[name] for name, key in names.items()})


def _check(name: str, found: Tensor | None, shape: torch.Size) -> None:
    if found is None:
        msg = f"reference weights: key {name!r} of shape {tuple(shape)} is missing"
        raise ValueError(msg)
    if found.shape != shape:
        msg = f"reference weights: key {name!r} has shape {tuple(found.shape)}, expected {tuple(shape)}"
        raise ValueError(msg)
