"""What a network is asked to do: from which modalities to which labels, on scans brought to which state.

Legend: X Y Z voxel axes in nibabel order.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Integer, UInt8

from ossnet.errors import UserError
from ossnet.tree import from_dict, to_dict

Normalisation = Literal["zscore", "zscore-foreground", "ct"]
Interpolation = Literal["linear", "cubic"]
Target = Literal["labels", "foreground"]
BACKGROUND = 0


@dataclass(frozen=True)
class Task:
    """The contract between a store, a checkpoint and the scans predicted later; kept beside each of them."""

    modalities: tuple[str, ...]
    """One name a channel, in channel order."""
    labels: dict[str, int]
    """Name and voxel value of each foreground class, in class order: class k is the k-th of them, from 1."""
    normalisation: Normalisation | tuple[Normalisation, ...] = "zscore-foreground"
    """One for all channels, or one a channel."""
    spacing: tuple[float, float, float] | None = None
    """Voxel size in mm along R, A and S to resample to; None keeps each scan's own."""
    interpolation: Interpolation = "linear"
    """Of images where they are resampled."""
    crop: float | None = None
    """Margin in mm around the box of a scan's foreground, beyond which it is cut off; None keeps all."""
    target: Target = "labels"
    """`foreground` merges every label above 0 into one class (the paper's binary tasks)."""

    @property
    def classes(self) -> int:
        """Number of foreground classes."""
        return len(self.labels)

    @property
    def normalisations(self) -> tuple[Normalisation, ...]:
        """One a channel."""
        if isinstance(self.normalisation, tuple):
            return self.normalisation
        return (self.normalisation,) * len(self.modalities)

    def encode(self, values: Integer[np.ndarray, "X Y Z"]) -> UInt8[np.ndarray, "X Y Z"]:
        """Voxel values to dense class indices 0..classes.

        Raises:
            UserError: a value that is neither background nor among the labels.
        """
        if self.target == "foreground":
            return (values > BACKGROUND).astype(np.uint8)
        known = np.array([BACKGROUND, *self.labels.values()])
        order = np.argsort(known)
        indices = np.empty(values.shape, np.uint8)
        strange: set[int] = set()
        for target, slab in zip(
            indices, values, strict=True
        ):  # slab by slab, as the search needs 8 bytes a voxel
            slots = np.minimum(np.searchsorted(known, slab, sorter=order), known.size - 1)
            target[...] = order[slots]
            strange.update(slab[known[target] != slab].tolist())
        if strange:
            msg = f"expected label values {sorted(known.tolist())}, found {_listed(strange)} too"
            raise UserError(msg)
        return indices

    def decode(self, indices: UInt8[np.ndarray, "X Y Z"]) -> Integer[np.ndarray, "X Y Z"]:
        """Dense class indices back to the voxel values of the labels (uint8 where they fit, else int16)."""
        values = np.array([BACKGROUND, *self.labels.values()])
        return values.astype(np.uint8 if values.max() < 256 else np.int16)[indices]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        plain: dict[str, Any] = to_dict(self)
        return plain

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: Path | str = "task") -> "Task":
        """Rebuild what `to_dict` gave; `where` names the file in errors."""
        return from_dict(cls, values, str(where))


def _listed(values: set[int]) -> str:
    shown = ", ".join(map(str, sorted(values)[:5]))
    return shown if len(values) <= 5 else f"{shown} and {len(values) - 5} others"
