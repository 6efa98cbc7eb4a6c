"""From a volume of codes (`ossnet.data.regions`) to what a network of one configuration is to learn.

Letters: K classes, X Y Z voxel axes in nibabel's order.
"""

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from ossnet.data.regions import in_class
from ossnet.models import NetworkConfig


def class_masks(codes: UInt8[Tensor, "..."], model: NetworkConfig, *, axis: int = 0) -> Bool[Tensor, "..."]:
    """Whether each voxel lies in each class, the classes on a new axis."""
    masks = [in_class(codes, index, overlapping=model.overlapping) for index in range(model.classes)]
    return torch.stack(masks, axis)


def targets(
    codes: UInt8[Tensor, "..."], model: NetworkConfig, *, axis: int
) -> Int[Tensor, "..."] | Float[Tensor, "..."]:
    """The class of every voxel, or 0 and 1 for every region on a new axis, as the losses take them."""
    return class_masks(codes, model, axis=axis).float() if model.overlapping else codes.long()
