"""A batch of zeros of the shapes that a configuration trains on.

Letters: B batch, C channels, N points, P patch edge, K classes, X Y Z voxel axes (x y z: downscaled).
"""

from collections.abc import Sequence

import torch

from ossnet.errors import UserError
from ossnet.models import DenseConfig, NetworkConfig, OccupancyConfig
from ossnet.sampling import SamplingConfig
from ossnet.sampling.batch import Batch, DenseBatch, PointBatch
from ossnet.sampling.batches import targets
from ossnet.sampling.grid import Shape, encoder_grid


def dummy_batch(
    model: NetworkConfig, sampling: SamplingConfig, *, volumes: int, device: torch.device
) -> Batch:
    """Make a batch of zeros for `volumes` volumes.

    Raises:
        UserError: the configuration has no working shape yet.
    """
    working = require_working_shape(sampling)
    if isinstance(model, OccupancyConfig):
        return _points(model, sampling, working, volumes, device)
    assert isinstance(model, DenseConfig)
    return _crops(model, sampling, working, volumes, device)


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


def _points(
    model: OccupancyConfig, sampling: SamplingConfig, working: Shape, volumes: int, device: torch.device
) -> PointBatch:
    points, edge, factor = sampling.drawn, model.patch_edge, model.encoder_downscale

    def zeros(shape: Sequence[int], dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.zeros((volumes, *shape), device=device, dtype=dtype)

    patch = (points, model.in_channels, edge, edge, edge)

    return PointBatch(
        cases=("dummy",) * volumes,
        encoder_input=zeros((model.in_channels, *(axis // factor for axis in working))),
        coordinates=zeros((points, 3)),
        patches=zeros(patch, getattr(torch, sampling.image_dtype)) if model.local_patch else None,
        mid_range=zeros(patch) if model.mid_range_patch else None,
        labels=targets(zeros((points,)).byte(), model, axis=-1),
        coarse_labels=zeros((model.classes, *encoder_grid(model, working))),
        distances=zeros((points, model.classes)) if model.distance_head else None,
        grid_shape=working,
        candidates=sampling.candidates,
        chosen=sampling.uncertain_points,
    )


def _crops(
    model: DenseConfig, sampling: SamplingConfig, working: Shape, volumes: int, device: torch.device
) -> DenseBatch:
    crop = sampling.crop_shape or working
    axes: tuple[int, ...] = tuple(min(edge, length) for edge, length in zip(crop, working, strict=True))
    images = volumes
    if model.spatial_dims == 2:
        images, axes = volumes * sampling.slices, axes[:2]
    return DenseBatch(
        cases=("dummy",) * volumes,
        image=torch.zeros((images, model.in_channels, *axes), device=device),
        labels=targets(torch.zeros((images, *axes), dtype=torch.uint8, device=device), model, axis=1),
    )
