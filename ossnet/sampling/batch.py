"""The tensors of one training step: points and patches, or dense images.

Letters: B batch, C channels, K regions, N points, P patch edge, X Y Z voxel axes (x y z: downscaled).
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ossnet.errors import UserError
from ossnet.models import DenseConfig, NetworkConfig, OccupancyConfig
from ossnet.sampling.config import SamplingConfig
from ossnet.sampling.grid import Shape, encoder_grid
from ossnet.sampling.transforms.planes import empty


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
        return [value for _, value in self._named()]

    def to(self, device: torch.device) -> Self:
        """A copy of the batch on another device."""
        moved: dict[str, Any] = {name: each.to(device, non_blocking=True) for name, each in self._named()}
        return replace(self, **moved)

    def part(self, index: int) -> Self:
        """The volume of this index as a batch of its own, in the same memory."""
        volumes = len(self.cases)
        parts: dict[str, Any] = {name: each.tensor_split(volumes)[index] for name, each in self._named()}
        return replace(self, cases=(self.cases[index],), **parts)

    def _named(self) -> list[tuple[str, Tensor]]:
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        return [(name, value) for name, value in values if isinstance(value, Tensor)]


@dataclass(frozen=True)
class PointBatch(Batch):
    """Input and target of an occupancy network."""

    encoder_input: Float[Tensor, "B C x y z"]
    """Channels-last in memory, as the encoder takes it without a copy."""
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


def empty_batch(
    cases: Sequence[str], model: NetworkConfig, sampling: SamplingConfig, device: torch.device
) -> Batch:
    """Room for a batch of these cases: all of its tensors, whose values are not set.

    Raises:
        UserError: the configuration has no working shape yet.
    """
    working = require_working_shape(sampling)
    if isinstance(model, OccupancyConfig):
        return _empty_points(tuple(cases), model, sampling, working, device)
    assert isinstance(model, DenseConfig)
    return _empty_crops(tuple(cases), model, sampling, working, device)


def require_working_shape(sampling: SamplingConfig) -> Shape:
    """The working shape X, Y, Z in voxels.

    Raises:
        UserError: it is not set yet.
    """
    if sampling.working_shape is None:
        raise UserError(
            "sampling.working_shape",
            expected="X Y Z in voxels, as memory depends on it",
            found="none",
            remedy="set it, or give a store with --data",
        )
    return sampling.working_shape


def _empty_points(
    cases: tuple[str, ...],
    model: OccupancyConfig,
    sampling: SamplingConfig,
    working: Shape,
    device: torch.device,
) -> PointBatch:
    def room(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return empty((len(cases), *shape), dtype, device)

    points, channels, edge = sampling.drawn, model.in_channels, model.patch_edge
    coarse = [axis // model.encoder_downscale for axis in working]
    patch, local = (points, channels, edge, edge, edge), getattr(torch, sampling.image_dtype)
    return PointBatch(
        cases=cases,
        encoder_input=room(*coarse, channels).movedim(-1, 1),
        coordinates=room(points, 3),
        patches=room(*patch, dtype=local) if model.local_patch else None,
        mid_range=room(*patch) if model.mid_range_patch else None,
        labels=room(points, model.classes) if model.overlapping else room(points, dtype=torch.int64),
        coarse_labels=room(model.classes, *encoder_grid(model, working)),
        distances=room(points, model.classes) if model.distance_head else None,
        grid_shape=working,
        candidates=sampling.candidates,
        chosen=sampling.uncertain_points,
    )


def _empty_crops(
    cases: tuple[str, ...], model: DenseConfig, sampling: SamplingConfig, working: Shape, device: torch.device
) -> DenseBatch:
    crop = sampling.crop_shape or working
    axes: tuple[int, ...] = tuple(min(edge, length) for edge, length in zip(crop, working, strict=True))
    images = len(cases)
    if model.spatial_dims == 2:
        images, axes = images * sampling.slices, axes[:2]
    if model.overlapping:
        labels = empty((images, model.classes, *axes), torch.float32, device)
    else:
        labels = empty((images, *axes), torch.int64, device)
    return DenseBatch(
        cases=cases, image=empty((images, model.in_channels, *axes), torch.float32, device), labels=labels
    )
