"""Two bytes a voxel: half floats, or whole numbers with a step and a zero for each channel.

Half floats are read as they are, with an error that grows with the value; whole numbers err equally
everywhere, by half a step, which is less than half floats at the largest values of a channel.

Legend: X Y Z voxel axes in nibabel order.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32, Shaped

Storage = Literal["float16", "int16"]

MAX_ERROR = 2**-6
"""Largest error of a stored intensity, in standard deviations; half floats keep it up to 64 of them."""
_MAX_INT16 = 32767


@dataclass(frozen=True)
class Quantization:
    """Stored numbers are intensities `(number - zero) * step`, so that 0, the background, stays exactly 0."""

    step: float
    zero: int

    def decode(self, stored: Shaped[np.ndarray, "*any"]) -> Float32[np.ndarray, "*any"]:
        """Normalized intensities of stored numbers, in any selection."""
        values = stored.astype(np.float32)
        values -= np.float32(self.zero)
        values *= np.float32(self.step)
        return values


def encode(
    channel: Float32[np.ndarray, "X Y Z"], target: Shaped[np.ndarray, "X Y Z"]
) -> tuple[Quantization | None, float]:
    """Store a normalized channel in an array of `Storage` type.

    Returns:
        The scale of whole numbers (None for half floats), and the largest error of what will be read back.
    """
    scale = None if target.dtype == np.float16 else _scale(channel)
    error = 0.0
    for slab, stored in zip(channel, target, strict=True):
        if scale is None:
            with np.errstate(over="ignore"):  # the error is infinite then
                stored[...] = slab
            again = stored.astype(np.float32)
        else:
            stored[...] = np.rint(slab / np.float32(scale.step)) + scale.zero
            again = scale.decode(stored)
        error = max(error, float(np.abs(again - slab).max()))
    return scale, error


def _scale(channel: Float32[np.ndarray, "X Y Z"]) -> Quantization:
    lowest, highest = min(float(channel.min()), 0.0), max(float(channel.max()), 0.0)
    step = float(np.float32((highest - lowest) / (2 * _MAX_INT16 - 1)))
    if step < np.finfo(np.float32).tiny:
        step = 1.0
    return Quantization(step, -_MAX_INT16 - round(lowest / step))
