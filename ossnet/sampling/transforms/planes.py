"""Volumes as a store maps them, read-only and perhaps mirrored, for arithmetic plane by plane.

A plane of all channels stays in the processor's cache, so a volume in float16 is never converted as a whole.

Letters: C channels, X Y Z voxel axes in nibabel's order.
"""

import warnings

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


class PlaneReader:
    """The planes `[C Y Z]` of a volume along its first axis in float32, each overwriting the one before."""

    def __init__(self, volume: Float[np.ndarray, "C X Y Z"]) -> None:
        self._tensor, self._mirrored = _unmirrored(volume)
        self._plane = torch.empty(volume.shape[0], *volume.shape[2:])

    def __len__(self) -> int:
        return self._tensor.shape[1]

    def __getitem__(self, x: int) -> Float[Tensor, "C Y Z"]:
        plane = self._tensor[:, len(self) - 1 - x if 1 in self._mirrored else x]
        axes = [axis - 1 for axis in self._mirrored if axis > 1]
        return self._plane.copy_(plane.flip(axes) if axes else plane)


def to_float32(volume: Float[np.ndarray, "C X Y Z"]) -> Float[Tensor, "C X Y Z"]:
    """The whole volume as a float32 copy."""
    tensor, mirrored = _unmirrored(volume)
    copied = tensor.to(torch.float32, copy=True)
    return copied.flip(mirrored) if mirrored else copied


def smallest(volume: Float[np.ndarray, "C X Y Z"]) -> Float[Tensor, "C"]:
    """The smallest value of each channel."""
    return _unmirrored(volume)[0].flatten(1).amin(1).float()  # `aminmax` takes tenfold as long as both


def largest(volume: Float[np.ndarray, "C X Y Z"]) -> Float[Tensor, "C"]:
    """The largest value of each channel."""
    return _unmirrored(volume)[0].flatten(1).amax(1).float()


def _unmirrored(volume: np.ndarray) -> tuple[Tensor, tuple[int, ...]]:
    """The volume without a copy, and the axes along which it runs the other way: torch has no such view."""
    mirrored = tuple(axis for axis, stride in enumerate(volume.strides) if stride < 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a store's pages are read-only, and only read here
        return torch.from_numpy(np.flip(volume, mirrored)), mirrored
