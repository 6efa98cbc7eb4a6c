"""From a volume of codes (`ossnet.data.labels.scheme`) to what a network of one configuration is to learn.

Letters: K classes, X Y Z voxel axes in nibabel's order.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from ossnet.data.labels.scheme import ClassScheme
from ossnet.models import NetworkConfig


def class_masks(codes: UInt8[Tensor, "X Y Z"], model: NetworkConfig) -> Bool[Tensor, "K X Y Z"]:
    """Where each class is; the classes of regions may overlap."""
    voxels = codes.numpy()  # numpy compares bytes tenfold as fast as torch
    scheme = ClassScheme.of(model)
    masks = [scheme.in_class(voxels, index) for index in range(scheme.classes)]
    return torch.from_numpy(np.stack(masks))


def targets(
    codes: UInt8[Tensor, "..."], model: NetworkConfig, *, axis: int
) -> Int[Tensor, "..."] | Float[Tensor, "..."]:
    """The class of every place; or 0 and 1 for every region, on a new axis, as the losses take them."""
    if not model.overlapping:
        return codes.long()
    scheme = ClassScheme.of(model)
    masks = [scheme.in_class(codes, index) for index in range(scheme.classes)]
    return torch.stack(masks, axis).float()
