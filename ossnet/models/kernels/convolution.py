"""Convolutions of feature maps, kept away from a fault and a slow path of the CPU libraries.

Letters: B batch, C channels in, O channels out, X Y Z voxel axes.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ossnet.models.kernels._fake import is_fake
from ossnet.models.kernels._torch import onednn_convolution


def channels_last(volume: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, "B C X Y Z"]:
    """A volume with its channels last in memory, and strides that say so.

    Of a single channel torch keeps strides that stand for both orders, and convolutions take the other one:
    on CPUs they take two to three times as long, and their maps are copied afterwards.
    """
    volume = volume.contiguous(memory_format=torch.channels_last_3d)
    return volume[:, 0].unsqueeze(-1).movedim(-1, 1) if volume.shape[1] == 1 else volume


def convolve(layer: nn.Conv3d, volume: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, "B O X Y Z"]:
    """Apply a convolution.

    On CPUs, in bfloat16, oneDNN gives wrong weight gradients where the first axis is shorter than the kernel
    (seen with torch 2.13, oneDNN 3.12); maps so small cost nothing in float32.
    """
    if volume.device.type == "cpu" and volume.shape[2] < layer.kernel_size[0]:
        with torch.autocast("cpu", enabled=False):
            return _apply(layer, volume.to(layer.weight.dtype))
    return _apply(layer, volume)


def _apply(layer: nn.Conv3d, volume: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, "B O X Y Z"]:
    """Use oneDNN where torch would choose its own kernel, which unfolds the volume and is 8 times slower."""
    single = volume.device.type == "cpu" and volume.dtype == layer.weight.dtype == torch.float32
    if single and not torch.is_autocast_enabled("cpu") and _onednn(volume):
        return onednn_convolution(layer, volume)
    return layer(volume)


def _onednn(volume: Tensor) -> bool:
    if torch.compiler.is_compiling() or is_fake(volume):
        return False
    return torch.backends.mkldnn.is_available()
