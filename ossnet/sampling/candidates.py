"""The foreground voxels of a case and its border: found once a case, drawn from at every step.

Letters: N voxels, X Y Z voxel axes in nibabel's order.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor
from torch.nn import functional

from ossnet.sampling.config import SamplingConfig
from ossnet.sampling.distance import crop_to, near_surface

CACHE_BYTES = 256 << 20
_ROUNDING = 1 + 1e-6  # a voxel that lies at the border's width exactly belongs to it


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
    label: UInt8[Tensor, "X Y Z"], spacing: Sequence[float], config: SamplingConfig
) -> PointCandidates:
    """Find the voxels that a configuration draws points from, on the label's device.

    Args:
        label: codes, 0 for the background.
        spacing: in mm along X, Y and Z.

    Returns:
        The candidates in the host's memory, where points are drawn.
    """
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
    return PointCandidates(tuple(each.cpu() for each in classes), border.cpu(), surface.cpu())


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


def border_within_mm(mask: Bool[Tensor, "X Y Z"], spacing: Sequence[float], width: float) -> Int[Tensor, "N"]:
    """Voxels whose distance to the nearest voxel of the other kind is at most `width` mm."""
    if mask.all():
        return torch.empty(0, dtype=torch.int32)
    signed, corner = near_surface(mask, spacing, width * _ROUNDING)
    return _numbers(signed.abs() <= width * _ROUNDING, corner, mask.shape)


def border_within_voxels(mask: Bool[Tensor, "X Y Z"], width: int) -> Int[Tensor, "N"]:
    """Voxels whose distance (largest axis) to a change between foreground and background is at most `width`.

    The change itself is the 3^3 dilation of the mask without its 3^3 erosion, as in the paper's code.
    """
    corner, box = crop_to(mask.bool(), [width + 2] * 3)
    inside = box.float()
    change = _dilate(inside, 1) * _dilate(1 - inside, 1)
    return _numbers(_dilate(change, width), corner, mask.shape)


def _by_class(label: Tensor) -> tuple[Tensor, ...]:
    voxels = label.flatten().nonzero()[:, 0]
    values = label.flatten()[voxels]
    return tuple(voxels[values == value].int() for value in values.unique())


def _surface(mask: Tensor) -> Tensor:
    """Voxels of the mask with a voxel of the background across a face; there is none beyond the grid."""
    corner, box = crop_to(mask, [1, 1, 1])
    rim = torch.zeros_like(box)
    for axis in range(3):
        length = box.shape[axis] - 1
        for target, source in ((1, 0), (0, 1)):
            rim.narrow(axis, target, length).logical_or_(~box.narrow(axis, source, length))
    return _numbers(rim & box, corner, mask.shape)


def _numbers(chosen: Tensor, corner: Sequence[int], shape: Sequence[int]) -> Int[Tensor, "N"]:
    """Numbers in the whole grid of the voxels of a box that are not zero."""
    indices = chosen.nonzero()
    x, y, z = (along + low for along, low in zip(indices.unbind(1), corner, strict=True))
    return ((x * shape[1] + y) * shape[2] + z).int()


def _dilate(mask: Tensor, radius: int) -> Tensor:
    """A (2 radius + 1)^3 maximum, one axis at a time."""
    for axis in range(3):
        kernel, margin = [1, 1, 1], [0, 0, 0]
        kernel[axis], margin[axis] = 2 * radius + 1, radius
        mask = functional.max_pool3d(mask[None], kernel, stride=1, padding=margin)[0]
    return mask
