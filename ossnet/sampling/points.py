"""Drawing the points of a training step: fractions of them near the border, inside the foreground, anywhere.

Letters: N points, X Y Z voxel axes in nibabel's order.
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from ossnet.sampling.candidates import PointCandidates
from ossnet.sampling.config import SamplingConfig


def draw_points(
    foreground: PointCandidates,
    shape: Sequence[int],
    spacing: Sequence[float],
    config: SamplingConfig,
    generator: torch.Generator,
) -> Int[Tensor, "N 3"]:
    """Voxel indices of one draw, candidates for the uncertain share last; either part in C order.

    A share that finds no voxel (no foreground, hence no border) falls to the uniform one.

    Args:
        foreground: from `find_foreground` with the same configuration.
        shape: X, Y, Z of the volume.
        spacing: in mm along X, Y and Z.
    """
    drawn = list(_near_foreground(foreground, shape, spacing, config, generator))
    size = shape[0] * shape[1] * shape[2]
    rest = config.drawn - config.candidates - sum(map(len, drawn))
    drawn.append(torch.randint(size, (rest,), generator=generator))
    candidates = torch.randint(size, (config.candidates,), generator=generator)
    # Neighbors in memory are gathered faster one after the other.
    numbers = torch.cat([torch.cat(drawn).sort().values, candidates.sort().values])
    return torch.stack(
        [numbers // (shape[1] * shape[2]), numbers // shape[2] % shape[1], numbers % shape[2]], dim=1
    )


def _near_foreground(
    foreground: PointCandidates,
    shape: Sequence[int],
    spacing: Sequence[float],
    config: SamplingConfig,
    generator: torch.Generator,
) -> Iterator[Int[Tensor, "n"]]:
    """Voxels in C order of the shares that depend on the label."""

    def of(voxels: Tensor, count: int) -> Tensor:
        return voxels[torch.randint(len(voxels), (count,), generator=generator)].long()

    count = int(config.points * config.border_fraction)
    if count and len(foreground.border):
        yield of(foreground.border, count)
    count = int(config.points * config.gaussian_fraction)
    if count and len(foreground.surface):
        yield _scattered(of(foreground.surface, count), shape, spacing, config.gaussian_width, generator)
    count = int(config.points * config.foreground_fraction)
    if count and foreground.classes:
        chosen = torch.randint(len(foreground.classes), (count,), generator=generator)
        for voxels, points in zip(
            foreground.classes, chosen.bincount(minlength=len(foreground.classes)).tolist(), strict=True
        ):
            yield of(voxels, points)


def _scattered(
    numbers: Int[Tensor, "n"],
    shape: Sequence[int],
    spacing: Sequence[float],
    width: float,
    generator: torch.Generator,
) -> Int[Tensor, "n"]:
    """Voxels moved by a Gaussian of `width` mm along each axis, no further than the volume's wall."""
    x, y, z = numbers // (shape[1] * shape[2]), numbers // shape[2] % shape[1], numbers % shape[2]
    offsets = torch.randn((len(numbers), 3), generator=generator) * width / torch.tensor(spacing)
    moved = torch.stack([x, y, z], 1) + offsets.round().long()
    x, y, z = torch.minimum(moved.clamp(min=0), torch.tensor(shape) - 1).unbind(1)
    return (x * shape[1] + y) * shape[2] + z
