"""The tensors of a training step from its volumes: points and patches, or crops, or slices.

Made on the device that the volumes are sent to. All random numbers come from a generator of the CPU, so that
a draw is the same on every device.

Letters: B batch, C channels, K classes, N points, P patch edge, X Y Z voxel axes (x y z: downscaled).
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from ossnet.data import Task
from ossnet.data.imaging.geometry import Spacing
from ossnet.data.labels.scheme import ClassScheme
from ossnet.models import DenseConfig, NetworkConfig, OccupancyConfig
from ossnet.sampling.batch import Batch, DenseBatch, PointBatch, empty_batch, require_working_shape
from ossnet.sampling.candidates import ForegroundCache, find_foreground
from ossnet.sampling.config import AugmentationConfig, SamplingConfig
from ossnet.sampling.distance import signed_distances
from ossnet.sampling.downscale import DEVICE_CELLS, classes_in_cells, downscale, max_pool_any
from ossnet.sampling.gather import PART_BYTES, gather_patches
from ossnet.sampling.grid import Shape, coordinates, offset, pad
from ossnet.sampling.points import draw_points
from ossnet.sampling.sampler import SampleKey
from ossnet.sampling.transforms import planes
from ossnet.sampling.transforms.augmentation import AugmentedCase, Augmenter
from ossnet.sampling.transforms.intensity import DEVICE_PLANES, NOISE_BYTES
from ossnet.sampling.transforms.planes import as_tensor
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

    def fill(batch: Batch, volume: Volume) -> None:
        generator = _generator(seed, volume.key)
        codes, owned = _codes(task, volume.label), volume.owned or bool(volume.scales)
        augmented = augment(volume.image(), codes, volume.spacing, generator, in_place=owned)
        if isinstance(batch, DenseBatch):
            _fill_crops(batch, augmented, model, sampling, generator)
            return
        assert isinstance(batch, PointBatch)
        indices = _indices(volume, augmented, sampling, foregrounds, generator)
        mirrored = _mirror(indices, augmented)
        _fill_voxels(batch, augmented, mirrored, model)
        _fill_targets(batch, augmented.label, augmented.mirrored, indices, volume.spacing, model, sampling)

    def make(volumes: Sequence[Volume]) -> Batch:
        batch = empty_batch([volume.key.case for volume in volumes], model, sampling, place)
        for index, volume in enumerate(volumes):
            fill(batch.part(index), cache.send(volume))
        return batch

    return make


def drawing_bytes(model: NetworkConfig, sampling: SamplingConfig, augmentation: AugmentationConfig) -> int:
    """Bytes on the device, at most, of a volume of the working shape while its part of a batch is drawn.

    They are the voxels, changed in place, and the label; the largest of what is made of parts of them; and
    what stays from draw to draw. Not counted is what is made once a case for points near the foreground's
    border, and at each draw for distances: up to 20 bytes a voxel of the box around the foreground.

    Raises:
        UserError: the configuration has no working shape yet.
    """
    working = require_working_shape(sampling)
    voxels, channels = prod(working), model.in_channels
    size = 2 if sampling.image_dtype == "float16" else 2 + 4  # whole numbers, and decoded
    if augmentation.warps:
        size += 4 + 2  # in float32, and resampled
    elif augmentation.extra:
        size += 2
    plane = 4 * channels * voxels // working[0]
    slab = min(DEVICE_PLANES, working[0]) * plane
    slabs = 4 if augmentation.bias_field else 1  # the field's logarithm, and what it is made from
    temporary = [2 * voxels, slabs * slab]  # a label mirrored or framed, and a class; changed planes
    if isinstance(model, OccupancyConfig):
        slab = min(DEVICE_CELLS * model.encoder_downscale, working[0]) * plane
        temporary.append(slab + slab // 2 + slab // model.encoder_downscale**3)
        if model.patch_channels:
            patch = 4 * channels * (2 * model.patch_edge if model.mid_range_patch else model.patch_edge) ** 3
            temporary.append(2 * min(PART_BYTES, sampling.drawn * patch))
    else:
        temporary.append(voxels * (1 + 2 * 2))  # a label, and a modality mirrored and framed
    noise = NOISE_BYTES if augmentation.noisy else 0
    return voxels * (size * channels + 1) + max(temporary) + noise


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


def _fill_voxels(
    batch: PointBatch, augmented: AugmentedCase, mirrored: Int[Tensor, "N 3"], model: NetworkConfig
) -> None:
    """Set what the network sees of one volume."""
    assert isinstance(model, OccupancyConfig)
    image, axes, working = augmented.image, augmented.mirrored, batch.grid_shape
    frame = torch.tensor(offset(image.shape[1:], working))
    batch.coordinates[0].copy_(coordinates(mirrored + frame, working))
    local, mid_range = (each if each is None else each[0] for each in (batch.patches, batch.mid_range))
    gather_patches(image, axes, mirrored, local=local, mid_range=mid_range)
    downscale(image, axes, working, model.encoder_downscale, out=batch.encoder_input[0])


def _fill_targets(
    batch: PointBatch,
    label: UInt8[Tensor, "X Y Z"],
    mirrored: Sequence[int],
    indices: Int[Tensor, "N 3"],
    spacing: Spacing,
    model: NetworkConfig,
    sampling: SamplingConfig,
) -> None:
    """Set what the network is to learn of one volume, from its label before it is mirrored."""
    here = indices.to(label.device)
    targets(label[tuple(here.unbind(1))], model, axis=-1, out=batch.labels[0])
    if batch.distances is not None:
        masks = class_masks(label, model)
        distances = signed_distances(masks, here, spacing=spacing, reach=sampling.distance_reach)
        batch.distances[0].copy_(distances)
    framed = pad(label.flip(list(mirrored)) if mirrored else label, batch.grid_shape)
    _fill_coarse(batch.coarse_labels[0], framed, model)


def _fill_coarse(
    coarse: Float[Tensor, "K x y z"], label: UInt8[Tensor, "X Y Z"], model: NetworkConfig
) -> None:
    """Pool each class by the maximum to the auxiliary head's grid (paper, section 3)."""
    scheme = ClassScheme.of(model)
    if not scheme.overlapping and scheme.classes > _FEW_CLASSES:
        coarse.copy_(classes_in_cells(label, coarse.shape[1:], scheme.classes))
        return
    for cells, mask in zip(coarse, class_masks(label, model), strict=True):
        cells.copy_(max_pool_any(mask, cells.shape))


def _fill_crops(
    batch: DenseBatch,
    augmented: AugmentedCase,
    model: NetworkConfig,
    sampling: SamplingConfig,
    generator: torch.Generator,
) -> None:
    """Set image and labels of one volume, a modality at a time."""
    assert isinstance(model, DenseConfig)
    working = require_working_shape(sampling)
    label = pad(augmented.mirror_label(), working)
    box: tuple[slice, ...] = (slice(None),) * 3
    if sampling.crop_shape is not None:
        box = _box(label, sampling.crop_shape, generator)
    label, chosen = label[box], None
    if model.spatial_dims == 2:
        chosen = torch.randint(label.shape[-1], (sampling.slices,), generator=generator).to(label.device)

    def images(volume: Tensor) -> Tensor:
        """The chosen slices, or the whole as one image."""
        return volume[None] if chosen is None else volume[..., chosen].movedim(-1, 0)

    for channel, room in enumerate(batch.image.unbind(1)):
        room.copy_(images(pad(augmented.mirror_image(channel), working)[box]))
    targets(images(label), model, axis=1, out=batch.labels)


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


def class_masks(codes: UInt8[Tensor, "X Y Z"], model: NetworkConfig) -> Iterator[Bool[Tensor, "X Y Z"]]:
    """A mask per class, one at a time; the masks of regions may overlap."""
    scheme = ClassScheme.of(model)
    for index in range(scheme.classes):
        if planes.on_cpu(codes):  # numpy compares bytes tenfold as fast as torch
            yield torch.from_numpy(scheme.in_class(codes.numpy(), index))
        else:
            yield scheme.in_class(codes, index)


def targets(
    codes: UInt8[Tensor, "..."],
    model: NetworkConfig,
    *,
    axis: int,
    out: Int[Tensor, "..."] | Float[Tensor, "..."],
) -> None:
    """Set the class of every voxel; or, of regions, 0 or 1 for each on another axis, as the losses take
    them."""
    if not model.overlapping:
        out.copy_(codes)
        return
    scheme = ClassScheme.of(model)
    for index, room in enumerate(out.unbind(axis)):
        room.copy_(scheme.in_class(codes, index))
