"""The tensors of one training step: points and patches, or dense images.

Letters: B batch, C channels, K regions, N points, P patch edge, X Y Z voxel axes (x y z: downscaled).
"""

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ossnet.sampling.grid import Shape


@dataclass(frozen=True)
class Batch:
    """The base of both kinds of batch."""

    cases: tuple[str, ...]

    @property
    def n_predictions(self) -> int:
        """The number of predictions that the network makes."""
        raise NotImplementedError

    def tensors(self) -> list[Tensor]:
        """Every tensor of the batch."""
        values = (getattr(self, field.name) for field in fields(self))
        return [value for value in values if isinstance(value, Tensor)]

    def to(self, device: torch.device) -> "Batch":
        """A copy of the batch on another device."""
        moved: dict[str, Any] = {
            field.name: value.to(device, non_blocking=True)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **moved)


@dataclass(frozen=True)
class PointBatch(Batch):
    """Input and target of an occupancy network."""

    encoder_input: Float[Tensor, "B C x y z"]
    coordinates: Float[Tensor, "B N 3"]
    patches: Float[Tensor, "B N C P P P"] | None
    """Local patches, in the precision of `SamplingConfig.image_dtype`."""
    mid_range: Float[Tensor, "B N C P P P"] | None
    """Mid-range patches; float32, as they are means."""
    labels: Int[Tensor, "B N"] | Float[Tensor, "B N K"]
    """The class of each point; of regions that overlap 1 in each that it lies in, else 0."""
    coarse_labels: Int[Tensor, "B K x y z"]
    """1 where a cell of the auxiliary grid holds any voxel of the class, else 0."""
    distances: Float[Tensor, "B N K"] | None
    """Signed distance to each class's surface in units of `distance_reach`, cut to [-1, 1]; None without a
    head that learns it."""
    grid_shape: Shape
    candidates: int = 0
    """Number of the points, the last ones, that the network chooses among."""
    chosen: int = 0
    """Number of the candidates that it keeps."""

    @property
    def network_patches(self) -> Tensor | tuple[Tensor, Tensor] | None:
        """The patches as an occupancy network takes them: of one kind, of both, or None."""
        if self.patches is None or self.mid_range is None:
            return self.mid_range if self.patches is None else self.patches
        return self.patches, self.mid_range

    @property
    def n_predictions(self) -> int:
        """The number of points that are kept, of all volumes."""
        volumes, drawn, _ = self.coordinates.shape
        return volumes * (drawn - self.candidates + self.chosen)


@dataclass(frozen=True)
class DenseBatch(Batch):
    """Input and target of a U-Net; 2-D networks have slices on the batch axis and no Z."""

    image: Float[Tensor, "B C ..."]
    labels: Int[Tensor, "B ..."] | Float[Tensor, "B K ..."]

    @property
    def n_predictions(self) -> int:
        """The number of voxels, of all volumes or slices."""
        return self.image[:, 0].numel()
