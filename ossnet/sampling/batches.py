"""The tensors of a training step from its volumes: points and patches, or crops, or slices.

Made on the device that the volumes are sent to. All random numbers come from a generator of the CPU, so that
a draw is the same on every device.

Letters: B batch, C channels, K classes, N points, P patch edge, X Y Z voxel axes (x y z: downscaled).
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from ossnet.data import Task
from ossnet.data.labels.scheme import ClassScheme
from ossnet.models import DenseConfig, NetworkConfig, OccupancyConfig
from ossnet.sampling.batch import Batch, DenseBatch, PointBatch
from ossnet.sampling.candidates import ForegroundCache, find_foreground
from ossnet.sampling.config import SamplingConfig
from ossnet.sampling.distance import signed_distances
from ossnet.sampling.downscale import classes_in_cells, downscale, max_pool_any
from ossnet.sampling.gather import gather_patches
from ossnet.sampling.grid import Shape, coordinates, encoder_grid, offset, pad
from ossnet.sampling.points import draw_points
from ossnet.sampling.sampler import SampleKey
from ossnet.sampling.transforms import planes
from ossnet.sampling.transforms.augmentation import AugmentationConfig, AugmentedCase, Augmenter
from ossnet.sampling.transforms.planes import as_tensor, empty
from ossnet.sampling.volume import Volume, VolumeCache

_FEW_CLASSES = 8  # up to which it is faster to look for one class after the other

BatchMaker = Callable[[Sequence[Volume]], Batch]


def batch_maker(
    task: Task,
    *,
    model: NetworkConfig,
    sampling: SamplingConfig,
    augmentation: AugmentationConfig,
    seed: int,
    device: torch.device | None = None,
    cache: VolumeCache | None = None,
) -> BatchMaker:
    """A function from one step's volumes to its batch on a device, by default the CPU.

    Volumes of equal keys give equal batches, on any machine and in any order. They are sent to the device one
    by one, and only their samples stay.

    Args:
        cache: keeps volumes on the same device; by default none is kept.
    """
    place = device or torch.device("cpu")
    cache = cache or VolumeCache(0, place)
    augment, foregrounds = Augmenter(augmentation, seed, place), ForegroundCache()

    def sample(volume: Volume, patches: dict[str, Tensor | None]) -> dict[str, Tensor | None]:
        generator = _generator(seed, volume.key)
        codes = _codes(task, volume.label)
        augmented = augment(volume.image(), codes, volume.spacing, generator)
        if isinstance(model, DenseConfig):
            return _crops(augmented, model, sampling, generator)
        assert isinstance(model, OccupancyConfig)
        indices = _indices(volume, augmented, sampling, foregrounds, generator)
        mirrored = _mirror(indices, augmented)
        gather_patches(augmented.image, augmented.mirrored, mirrored, **patches)
        return _points(augmented, indices, mirrored, volume, model, sampling)

    def make(volumes: Sequence[Volume]) -> Batch:
        patches = _empty_patches(len(volumes), model, sampling, place)
        samples = [
            sample(
                cache.send(volume),
                {kind: each if each is None else each[index] for kind, each in patches.items()},
            )
            for index, volume in enumerate(volumes)
        ]
        cases = tuple(volume.key.case for volume in volumes)
        return _collate(cases, samples, patches, model, sampling)

    return make


def _generator(seed: int, key: SampleKey) -> torch.Generator:
    case = f"{key.case}/{key.instead_of}" if key.instead_of else key.case  # not what the case itself draws
    number = zlib.crc32(f"{seed}/{key.epoch}/{key.step}/{case}".encode())
    return torch.Generator().manual_seed(number)


def _codes(task: Task, label: UInt8[Tensor, "X Y Z"]) -> UInt8[Tensor, "X Y Z"]:
    """The codes of label indices."""
    if not task.regions:
        return label
    if planes.on_cpu(label):
        return as_tensor(task.codes(label.numpy()))  # numpy looks bytes up severalfold as fast as torch
    table = task.codes(torch.arange(len(task.labels) + 1, dtype=torch.uint8).numpy())
    return torch.from_numpy(table).to(label.device)[label.int()]


def _empty_patches(
    volumes: int, model: NetworkConfig, sampling: SamplingConfig, device: torch.device
) -> dict[str, Tensor | None]:
    """Room for the local and mid-range patches of a batch: they are gathered into it, as copies cost as much
    again."""

    if not isinstance(model, OccupancyConfig):
        return {"local": None, "mid_range": None}
    shape = (volumes, sampling.drawn, model.in_channels, *(model.patch_edge,) * 3)
    local = getattr(torch, sampling.image_dtype)
    return {
        "local": empty(shape, local, device) if model.local_patch else None,
        "mid_range": empty(shape, torch.float32, device) if model.mid_range_patch else None,
    }


def _indices(
    volume: Volume,
    augmented: AugmentedCase,
    sampling: SamplingConfig,
    foregrounds: ForegroundCache,
    generator: torch.Generator,
) -> Int[Tensor, "N 3"]:
    """Voxels of one draw, on the CPU: of the label before it is mirrored, as the case's is the same at every
    step."""

    def find() -> Any:
        return find_foreground(augmented.label, volume.spacing, sampling)

    foreground = find() if augmented.warped else foregrounds.get(volume.key.case, find)
    return draw_points(foreground, augmented.label.shape, volume.spacing, sampling, generator)


def _mirror(indices: Int[Tensor, "N 3"], augmented: AugmentedCase) -> Int[Tensor, "N 3"]:
    """Voxels of the mirrored case."""
    mirrored = indices.clone()
    for axis in augmented.mirrored:
        mirrored[:, axis] = augmented.label.shape[axis] - 1 - mirrored[:, axis]
    return mirrored


def _points(
    augmented: AugmentedCase,
    indices: Int[Tensor, "N 3"],
    mirrored: Int[Tensor, "N 3"],
    volume: Volume,
    model: OccupancyConfig,
    sampling: SamplingConfig,
) -> dict[str, Tensor | None]:
    working, label = sampling.working_shape, augmented.label
    assert working is not None
    here = indices.to(label.device)
    frame = torch.tensor(offset(label.shape, working))
    distances = None
    if model.distance_head:
        distances = signed_distances(
            class_masks(label, model), here, spacing=volume.spacing, reach=sampling.distance_reach
        )
    return {
        "encoder_input": downscale(augmented.image, augmented.mirrored, working, model.encoder_downscale),
        "coordinates": coordinates(mirrored + frame, working).to(label.device),
        "labels": targets(label[tuple(here.unbind(1))], model, axis=-1),
        "coarse_labels": _coarse(pad(augmented.mirror_label(), working), model),
        "distances": distances,
    }


def _coarse(label: Tensor, model: OccupancyConfig) -> Tensor:
    """Pool each class by the maximum to the auxiliary head's grid (paper, section 3)."""
    grid, scheme = encoder_grid(model, label.shape), ClassScheme.of(model)
    if not scheme.overlapping and scheme.classes > _FEW_CLASSES:
        return classes_in_cells(label, grid, scheme.classes).float()
    return torch.stack([max_pool_any(mask, grid) for mask in class_masks(label, model)]).float()


def _crops(
    augmented: AugmentedCase, model: DenseConfig, sampling: SamplingConfig, generator: torch.Generator
) -> dict[str, Tensor | None]:
    working = sampling.working_shape
    assert working is not None
    image, label = pad(augmented.mirror_image(), working), pad(augmented.mirror_label(), working)
    if sampling.crop_shape is not None:
        box = _box(label, sampling.crop_shape, generator)
        image, label = image[(slice(None), *box)], label[box]
    if model.spatial_dims == 2:
        chosen = torch.randint(label.shape[-1], (sampling.slices,), generator=generator).to(label.device)
        image, label = image[..., chosen].movedim(-1, 0), label[..., chosen].movedim(-1, 0)
    else:
        image, label = image[None], label[None]
    return {"image": image.float(), "labels": targets(label, model, axis=1)}


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
    patches: dict[str, Tensor | None],
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
        return PointBatch(
            cases=cases,
            patches=patches["local"],
            mid_range=patches["mid_range"],
            grid_shape=sampling.working_shape,
            candidates=sampling.candidates,
            chosen=sampling.uncertain_points,
            **joined,  # type: ignore[arg-type]
        )
    return DenseBatch(cases=cases, **joined)  # type: ignore[arg-type]


def class_masks(codes: UInt8[Tensor, "X Y Z"], model: NetworkConfig) -> Iterator[Bool[Tensor, "X Y Z"]]:
    """The mask of each class, one after the other; those of regions may overlap."""
    scheme = ClassScheme.of(model)
    for index in range(scheme.classes):
        if planes.on_cpu(codes):  # there numpy compares bytes tenfold as fast as torch
            yield torch.from_numpy(scheme.in_class(codes.numpy(), index))
        else:
            yield scheme.in_class(codes, index)


def targets(
    codes: UInt8[Tensor, "..."], model: NetworkConfig, *, axis: int
) -> Int[Tensor, "..."] | Float[Tensor, "..."]:
    """The class of every voxel; or, of regions, 0 or 1 for each on a new axis, as the losses take them."""
    if not model.overlapping:
        return codes.long()
    scheme = ClassScheme.of(model)
    masks = [scheme.in_class(codes, index) for index in range(scheme.classes)]
    return torch.stack(masks, axis).float()
