"""The foreground voxels of a case and its border: found once a case, drawn from at every step.

Letters: N voxels, X Y Z voxel axes in nibabel's order.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional

from ossnet.sampling.config import SamplingConfig
from ossnet.sampling.distance import bounds, near_surface

CACHE_BYTES = 256 << 20


@dataclass(frozen=True)
class PointCandidates:
    """Voxels that points are drawn from, numbered in C order; none where no share needs them."""

    classes: tuple[Int[Tensor, "N"], ...]
    """The voxels of each class that the case has."""
    border: Int[Tensor, "N"]
    """Near a change between foreground and background."""
    surface: Int[Tensor, "N"]
    """Foreground with background across a face."""

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(voxels.nbytes for voxels in (*self.classes, self.border, self.surface))


def find_foreground(
    label: Int[Tensor, "X Y Z"], spacing: Sequence[float], config: SamplingConfig
) -> PointCandidates:
    """Find the voxels that a configuration draws points from; `spacing` in mm along X, Y and Z."""
    none = torch.empty(0, dtype=torch.int32)
    foreground = label > 0
    if not foreground.any():
        return PointCandidates((), none, none)
    classes: tuple[Tensor, ...] = ()
    if config.foreground_fraction:
        classes = _by_class(label)
    border = none
    if config.border_fraction and config.border_unit == "voxels":
        border = border_within_voxels(foreground, int(config.border_width))
    elif config.border_fraction:
        border = border_within_mm(foreground, spacing, config.border_width)
    surface = _surface(foreground) if config.gaussian_fraction else none
    return PointCandidates(classes, border, surface)


class ForegroundCache:
    """The foregrounds used last, within a bound."""

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self._limit = limit
        self._kept: OrderedDict[str, PointCandidates] = OrderedDict()

    def get(self, case: str, find: Callable[[], PointCandidates]) -> PointCandidates:
        """The candidates of a case, found by `find` where they are not cached."""
        if case not in self._kept:
            self._kept[case] = find()
        self._kept.move_to_end(case)
        while len(self._kept) > 1 and self.nbytes > self._limit:
            self._kept.popitem(last=False)
        return self._kept[case]

    @property
    def nbytes(self) -> int:
        """Bytes of all cached candidates."""
        return sum(each.nbytes for each in self._kept.values())


def border_within_mm(mask: Tensor, spacing: Sequence[float], width: float) -> Int[Tensor, "N"]:
    """Voxels whose distance to the nearest voxel of the other kind is at most `width` mm."""
    if mask.all():
        return torch.empty(0, dtype=torch.int32)
    signed, low = near_surface(mask, spacing, width)
    return _numbers((signed.abs() <= width).nonzero() + low, mask.shape)


def border_within_voxels(mask: Tensor, width: int) -> Int[Tensor, "N"]:
    """Voxels whose distance (largest axis) to a change between foreground and background is at most `width`.

    The change itself is the 3^3 dilation of the mask without its 3^3 erosion, as in the paper's code.
    """
    box, corner = _box(mask, margin=width + 2)
    edge = _dilate(box, 1) * _dilate(1 - box, 1)
    return _numbers(_dilate(edge, width).nonzero() + corner, mask.shape)


def _by_class(label: Tensor) -> tuple[Tensor, ...]:
    voxels = label.flatten().nonzero()[:, 0]
    values = label.flatten()[voxels]
    return tuple(voxels[values == value].int() for value in values.unique())


def _surface(mask: Tensor) -> Tensor:
    from scipy.ndimage import binary_erosion

    box, corner = _box(mask, margin=1)
    inside = box.bool().numpy()
    # Beyond the grid there is no voxel, hence no background.
    rim = torch.from_numpy(inside & ~binary_erosion(inside, border_value=1))
    return _numbers(rim.nonzero() + corner, mask.shape)


def _numbers(indices: Int[Tensor, "N 3"], shape: Sequence[int]) -> Int[Tensor, "N"]:
    x, y, z = indices.unbind(1)
    return ((x * shape[1] + y) * shape[2] + z).int()


def _box(mask: Tensor, *, margin: int) -> tuple[Tensor, Tensor]:
    """The mask as floats within its bounding box and a margin, and the box's first corner."""
    low, high = bounds(mask)
    low = (low - margin).clamp(min=0)
    high = torch.minimum(high + margin, torch.tensor(mask.shape))
    x, y, z = (slice(int(start), int(end)) for start, end in zip(low, high, strict=True))
    return mask[x, y, z].float(), low


def _dilate(mask: Tensor, radius: int) -> Tensor:
    """A (2 radius + 1)^3 maximum, one axis at a time."""
    for axis in range(3):
        kernel, margin = [1, 1, 1], [0, 0, 0]
        kernel[axis], margin[axis] = 2 * radius + 1, radius
        mask = functional.max_pool3d(mask[None], kernel, stride=1, padding=margin)[0]
    return mask
