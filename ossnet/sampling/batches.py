"""The tensors of a training step from references to cases: points and patches, or crops, or slices.

Letters: B batch, C channels, N points, P patch edge, X Y Z voxel axes (x y z: downscaled).
"""

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from ossnet.data import Store
from ossnet.data.imaging.geometry import Spacing
from ossnet.data.labels.scheme import ClassScheme
from ossnet.data.store.case_file import StoredCase
from ossnet.models import DenseConfig, NetworkConfig, OccupancyConfig
from ossnet.sampling.batch import Batch, DenseBatch, PointBatch
from ossnet.sampling.candidates import ForegroundCache, find_foreground
from ossnet.sampling.config import SamplingConfig
from ossnet.sampling.distance import signed_distances
from ossnet.sampling.downscale import downscale, max_pool_any
from ossnet.sampling.gather import empty, gather_patches
from ossnet.sampling.grid import Shape, coordinates, encoder_grid, offset, pad
from ossnet.sampling.points import draw_points
from ossnet.sampling.sampler import SampleKey
from ossnet.sampling.transforms.augmentation import AugmentationConfig, AugmentedCase, Augmenter
from ossnet.sampling.transforms.planes import to_float32

BatchMaker = Callable[[Sequence[SampleKey]], Batch]


def batch_maker(
    store: Store,
    *,
    model: NetworkConfig,
    sampling: SamplingConfig,
    augmentation: AugmentationConfig,
    seed: int,
) -> BatchMaker:
    """A function from one step's sample keys to its batch; equal keys give equal batches on any machine."""

    augment, foregrounds = Augmenter(augmentation, seed), ForegroundCache()

    def sample(reference: SampleKey, patches: Tensor | None) -> dict[str, Tensor | None]:
        case, generator = store.case(reference.case), _generator(seed, reference)
        augmented = augment(case.image, store.task.codes(case.label), case.spacing, generator)
        label = torch.from_numpy(augmented.label.copy())
        if isinstance(model, DenseConfig):
            return _crops(to_float32(augmented.image), label, model, sampling, generator)
        assert isinstance(model, OccupancyConfig)
        indices = _indices(case, augmented, sampling, foregrounds, generator)
        if patches is not None:
            kinds = {"local": model.local_patch, "mid_range": model.mid_range_patch}
            gather_patches(augmented.image, indices, patches, **kinds)
        return _points(augmented.image, label, indices, case.spacing, model, sampling)

    def make(references: Sequence[SampleKey]) -> Batch:
        patches = _patches(len(references), model, sampling)
        buffers = [None] * len(references) if patches is None else patches
        samples = [sample(reference, buffer) for reference, buffer in zip(references, buffers, strict=True)]
        cases = tuple(reference.case for reference in references)
        return _collate(cases, samples, patches, model, sampling)

    return make


def batches(steps: Iterable[Sequence[SampleKey]], make: BatchMaker) -> Iterator[Batch]:
    """Make the batches of a run one by one, as they are consumed."""
    for references in steps:
        yield make(references)


def _generator(seed: int, reference: SampleKey) -> torch.Generator:
    key = zlib.crc32(f"{seed}/{reference.epoch}/{reference.step}/{reference.case}".encode())
    return torch.Generator().manual_seed(key)


def _patches(
    volumes: int, model: NetworkConfig, sampling: SamplingConfig
) -> Float[Tensor, "B N C P P P"] | None:
    """An empty tensor for the patches of a batch: they are gathered into it, as copies cost as much again."""
    if not isinstance(model, OccupancyConfig) or not model.patch_channels:
        return None
    return empty((volumes, sampling.drawn, model.patch_channels, *(model.patch_edge,) * 3))


def _indices(
    case: StoredCase,
    augmented: AugmentedCase,
    sampling: SamplingConfig,
    foregrounds: ForegroundCache,
    generator: torch.Generator,
) -> Int[Tensor, "N 3"]:
    """Voxels of one draw: from the label before it is mirrored, as the case's is the same at every step."""
    flat = torch.from_numpy(np.flip(augmented.label, augmented.mirrored).copy())
    if augmented.warped:
        foreground = find_foreground(flat, case.spacing, sampling)
    else:
        foreground = foregrounds.get(case.id, lambda: find_foreground(flat, case.spacing, sampling))
    indices = draw_points(foreground, flat.shape, case.spacing, sampling, generator)
    for axis in augmented.mirrored:
        indices[:, axis] = flat.shape[axis] - 1 - indices[:, axis]
    return indices


def _points(
    image: Float[np.ndarray, "C X Y Z"],
    label: Int[Tensor, "X Y Z"],
    indices: Int[Tensor, "N 3"],
    spacing: Spacing,
    model: OccupancyConfig,
    sampling: SamplingConfig,
) -> dict[str, Tensor | None]:
    working = sampling.working_shape
    assert working is not None
    x, y, z = indices.unbind(1)
    frame = torch.tensor(offset(label.shape, working))
    distances = None
    if model.distance_head:
        distances = signed_distances(
            class_masks(label, model), indices, spacing=spacing, reach=sampling.distance_reach
        )
    return {
        "encoder_input": downscale(image, working, model.encoder_downscale),
        "coordinates": coordinates(indices + frame, working),
        "labels": targets(label[x, y, z], model, axis=-1),
        "coarse_labels": _coarse(pad(label, working), model),
        "distances": distances,
    }


def _coarse(label: Tensor, model: OccupancyConfig) -> Tensor:
    """Pool each class by the maximum to the auxiliary head's grid (paper, section 3)."""
    grid = encoder_grid(model, label.shape)
    return torch.stack([max_pool_any(mask, grid) for mask in class_masks(label, model)]).float()


def _crops(
    image: Tensor, label: Tensor, model: DenseConfig, sampling: SamplingConfig, generator: torch.Generator
) -> dict[str, Tensor | None]:
    working = sampling.working_shape
    assert working is not None
    image, label = pad(image, working), pad(label, working)
    if sampling.crop_shape is not None:
        box = _box(label, sampling.crop_shape, generator)
        image, label = image[(slice(None), *box)], label[box]
    if model.spatial_dims == 2:
        chosen = torch.randint(label.shape[-1], (sampling.slices,), generator=generator)
        image, label = image[..., chosen].movedim(-1, 0), label[..., chosen].movedim(-1, 0)
    else:
        image, label = image[None], label[None]
    return {"image": image, "labels": targets(label, model, axis=1)}


def _box(label: Tensor, shape: Shape, generator: torch.Generator) -> tuple[slice, slice, slice]:
    """A box of the volume, every second one around a foreground voxel."""
    edges = [min(edge, length) for edge, length in zip(shape, label.shape, strict=True)]
    rooms = [length - edge for edge, length in zip(edges, label.shape, strict=True)]
    starts = [int(torch.randint(room + 1, (), generator=generator)) for room in rooms]
    foreground = label.nonzero()
    if len(foreground) and float(torch.rand((), generator=generator)) < 0.5:
        center = foreground[int(torch.randint(len(foreground), (), generator=generator))].tolist()
        starts = [
            min(max(middle - edge // 2, 0), room)
            for middle, edge, room in zip(center, edges, rooms, strict=True)
        ]
    x, y, z = (slice(start, start + edge) for start, edge in zip(starts, edges, strict=True))
    return x, y, z


def _collate(
    cases: tuple[str, ...],
    samples: Sequence[dict[str, Tensor | None]],
    patches: Tensor | None,
    model: NetworkConfig,
    sampling: SamplingConfig,
) -> Batch:
    join = torch.stack if isinstance(model, OccupancyConfig) else torch.cat
    joined = {}
    for name in samples[0]:
        values = [value for sample in samples if (value := sample[name]) is not None]
        joined[name] = join(values) if values else None
    if isinstance(model, OccupancyConfig):
        assert sampling.working_shape is not None
        local, mid_range = _split(patches, model, sampling)
        return PointBatch(
            cases=cases,
            patches=local,
            mid_range=mid_range,
            grid_shape=sampling.working_shape,
            candidates=sampling.candidates,
            chosen=sampling.uncertain_points,
            **joined,  # type: ignore[arg-type]
        )
    return DenseBatch(cases=cases, **joined)  # type: ignore[arg-type]


def _split(
    patches: Tensor | None, model: OccupancyConfig, sampling: SamplingConfig
) -> tuple[Tensor | None, Tensor | None]:
    """Local patches in their precision, and mid-range ones, each in memory of its own; None of one that the
    network does not take."""
    local, mid_range = None, None
    if patches is not None and model.local_patch:
        local = patches[:, :, : model.in_channels].to(getattr(torch, sampling.image_dtype))
    if patches is not None and model.mid_range_patch:
        mid_range = patches[:, :, -model.in_channels :].clone()
    return local, mid_range


def class_masks(codes: UInt8[Tensor, "X Y Z"], model: NetworkConfig) -> Bool[Tensor, "K X Y Z"]:
    """A mask per class; the masks of regions may overlap."""
    voxels = codes.numpy()  # numpy compares bytes tenfold as fast as torch
    scheme = ClassScheme.of(model)
    masks = [scheme.in_class(voxels, index) for index in range(scheme.classes)]
    return torch.from_numpy(np.stack(masks))


def targets(
    codes: UInt8[Tensor, "..."], model: NetworkConfig, *, axis: int
) -> Int[Tensor, "..."] | Float[Tensor, "..."]:
    """The class of every voxel; or, of regions, 0 or 1 for each on a new axis, as the losses take them."""
    if not model.overlapping:
        return codes.long()
    scheme = ClassScheme.of(model)
    masks = [scheme.in_class(codes, index) for index in range(scheme.classes)]
    return torch.stack(masks, axis).float()
