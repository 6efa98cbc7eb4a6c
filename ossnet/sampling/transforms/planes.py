"""Volumes in two bytes a voxel, for arithmetic plane by plane.

On a CPU a plane of all channels stays in the processor's cache, so a volume in float16 is never converted as
a whole.

Letters: C channels, X Y Z voxel axes in nibabel's order.
"""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ossnet.models.kernels._fake import fake_mode_is_on


class PlaneReader:
    """The planes `[C Y Z]` of a volume along its first axis in float32, each overwriting the one before.

    Args:
        volume: in any floating format; it is only read.
        mirrored: voxel axes, counted from 0, along which the planes are read the other way.
    """

    def __init__(self, volume: Float[Tensor, "C X Y Z"], mirrored: Sequence[int] = ()) -> None:
        self._volume = volume
        self._backwards = 0 in mirrored
        self._axes = [axis for axis in mirrored if axis > 0]  # Y is axis 1 of a plane too
        self._plane = torch.empty(volume.shape[0], *volume.shape[2:], device=volume.device)

    def __len__(self) -> int:
        return self._volume.shape[1]

    def __getitem__(self, x: int) -> Float[Tensor, "C Y Z"]:
        plane = self._volume[:, len(self) - 1 - x if self._backwards else x]
        return self._plane.copy_(plane.flip(self._axes) if self._axes else plane)


def smallest(volume: Float[Tensor, "C X Y Z"]) -> Float[Tensor, "C"]:
    """The smallest value of each channel."""
    return volume.flatten(1).amin(1).float()  # `aminmax` takes tenfold as long as both


def largest(volume: Float[Tensor, "C X Y Z"]) -> Float[Tensor, "C"]:
    """The largest value of each channel."""
    return volume.flatten(1).amax(1).float()


def on_cpu(volume: Tensor) -> bool:
    """Whether to take the way that is fast on CPUs; on other devices few large operations are."""
    return volume.device.type == "cpu"


def empty(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Room for large results.

    On a CPU numpy requests large pages of the system, which fill faster; torch does not.
    """
    if device.type != "cpu" or fake_mode_is_on():
        return torch.empty(*shape, dtype=dtype, device=device)
    return torch.from_numpy(np.empty(tuple(shape), str(dtype).removeprefix("torch.")))


def as_tensor(array: np.ndarray) -> Tensor:
    """A tensor over an array's memory, which is only read: a store's pages are read-only."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(np.ascontiguousarray(array))
