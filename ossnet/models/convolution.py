"""Convolutions of feature maps, kept away from a fault of the CPU library in half precision.

Letters: B batch, C channels in, O channels out, X Y Z voxel axes.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn


def convolve(layer: nn.Conv3d, volume: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, "B O X Y Z"]:
    """Apply a convolution.

    On CPUs, in bfloat16, oneDNN gives wrong weight gradients where the first axis is shorter than the kernel
    (seen with torch 2.13, oneDNN 3.12); maps so small cost nothing in float32.
    """
    if volume.device.type == "cpu" and volume.shape[2] < layer.kernel_size[0]:
        with torch.autocast("cpu", enabled=False):
            return layer(volume.to(layer.weight.dtype))
    return layer(volume)
