"""Which points a training step sees: shares drawn uniformly, near the border, and inside the foreground.

Letters: N points, X Y Z voxel axes in nibabel's order.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class SamplingConfig:
    """How training data is drawn from a case."""

    points: int = 2**14
    """Points a volume and step (the paper: 2^14)."""
    border_share: float = 0.0
    """Share of the points within `border_width` voxels of the label's border (the paper: 0.5 for LiTS)."""
    foreground_share: float = 0.0
    """Share of the points inside the foreground; the rest is uniform over the volume."""
    border_width: int = 6
    """Voxels by which the border is widened on either side (paper: 6)."""
    distance_reach: float = 10.0
    """Distance in mm beyond which a network's distance head tells no difference."""
    crop_shape: tuple[int, int, int] | None = None
    """What a dense network trains on; nothing: the whole working volume."""
    slices: int = 16
    """Slices a volume and step for a 2-D network."""
    working_shape: tuple[int, int, int] | None = None
    """The grid every case is centred in; nothing: the study's largest case, rounded up for the network."""

    def __post_init__(self) -> None:
        if self.points < 1:
            msg = f"points must be at least 1, found {self.points}"
            raise ValueError(msg)
        if self.distance_reach <= 0:
            msg = f"distance_reach must be above 0 mm, found {self.distance_reach}"
            raise ValueError(msg)
        shares = (self.border_share, self.foreground_share)
        if min(shares) < 0 or sum(shares) > 1:
            msg = f"border_share and foreground_share must be positive and add to 1 at most, found {shares}"
            raise ValueError(msg)


def draw_points(
    label: Int[Tensor, "X Y Z"], config: SamplingConfig, generator: torch.Generator
) -> Int[Tensor, "N 3"]:
    """Voxel indices of one draw, shuffled.

    A share that finds no voxel (no foreground, hence no border) falls to the uniform one.
    """
    drawn = []
    for share, region in (
        (config.border_share, lambda: border_voxels(label, config.border_width)),
        (config.foreground_share, lambda: label.nonzero()),
    ):
        count = int(config.points * share)
        if count and len(candidates := region()):
            drawn.append(candidates[torch.randint(len(candidates), (count,), generator=generator)])
    rest = config.points - sum(map(len, drawn))
    uniform = [torch.randint(length, (rest,), generator=generator) for length in label.shape]
    points = torch.cat([*drawn, torch.stack(uniform, dim=1)])
    return points[torch.randperm(len(points), generator=generator)]


def border_voxels(label: Int[Tensor, "X Y Z"], width: int) -> Int[Tensor, "N 3"]:
    """Voxels whose distance (largest axis) to a change between foreground and background is at most `width`.

    The change itself is the 3^3 dilation of the mask without its 3^3 erosion, as in the paper's code.
    """
    foreground = label > 0
    if not foreground.any():
        return torch.empty((0, 3), dtype=torch.long)
    box, corner = _box(foreground, margin=width + 2)
    edge = _dilate(box, 1) * _dilate(1 - box, 1)
    return _dilate(edge, width).nonzero() + corner


def _box(mask: Tensor, *, margin: int) -> tuple[Tensor, Tensor]:
    """The mask as floats within its bounding box and a margin, and the box's first corner."""
    slices, corner = [], []
    for axis, length in enumerate(mask.shape):
        others = [other for other in range(mask.ndim) if other != axis]
        present = mask.any(dim=others[1]).any(dim=others[0]).nonzero()
        first, last = int(present.min()), int(present.max())
        slices.append(slice(max(first - margin, 0), min(last + margin + 1, length)))
        corner.append(slices[-1].start)
    return mask[tuple(slices)].float(), torch.tensor(corner)


def _dilate(mask: Tensor, radius: int) -> Tensor:
    """A (2 radius + 1)^3 maximum, one axis at a time."""
    for axis in range(3):
        kernel, margin = [1, 1, 1], [0, 0, 0]
        kernel[axis], margin[axis] = 2 * radius + 1, radius
        mask = functional.max_pool3d(mask[None], kernel, stride=1, padding=margin)[0]
    return mask
