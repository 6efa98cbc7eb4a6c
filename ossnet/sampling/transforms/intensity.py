"""Changes of voxel values, made in one pass over a volume in float16, on its device.

Letters: C channels, S planes, X Y Z voxel axes in nibabel's order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ossnet.sampling.transforms import planes
from ossnet.sampling.transforms.planes import largest, smallest

NOISE_BYTES = 2**24
"""Bytes of a `NoisePool`."""
_POOL = NOISE_BYTES // 4
_RUN = 2**18
DEVICE_PLANES = 16
"""Planes that are changed at once on a device, whose every operation takes a while to begin."""


class NoisePool:
    """Gaussian noise drawn once and read from random places on: tenfold as fast as drawing it anew.

    Every plane begins at a place of its own, so neighboring voxels are as independent as
    ever; that far-away voxels may share a value is the only deviation.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self._values = torch.randn(_POOL, generator=torch.Generator().manual_seed(seed)).to(device)

    def draw(self, shape: Sequence[int], generator: torch.Generator) -> list[list[int]]:
        """Where the noise of each plane of a volume `C X Y Z` begins, for every run of its voxels."""
        channels, planes, *plane = shape
        sizes = [
            min(_RUN, channels * prod(plane) - first) for first in range(0, channels * prod(plane), _RUN)
        ]
        return [
            [int(torch.randint(_POOL - size, (), generator=generator)) for size in sizes]
            for _ in range(planes)
        ]

    def add_to(self, plane: Float[Tensor, "C Y Z"], starts: Sequence[int], deviation: float) -> None:
        """Add noise to a contiguous plane of all channels, in place."""
        for run, start in zip(plane.view(-1).split(_RUN), starts, strict=True):
            run.add_(self._values[start : start + len(run)], alpha=deviation)


@dataclass(frozen=True)
class IntensityParams:
    """Changes of a volume's values, in the order of the fields."""

    exponents: Float[Tensor, "C"] | None
    """Exponents of the values between the modality's smallest and largest, which stay."""
    bias: Float[Tensor, "C 3 3 3"] | None
    """Logarithm of a factor of the values above the smallest: amplitudes of cosines with 0, 1 and 2 half
    periods along each axis."""
    brighter: Float[Tensor, "C"] | None
    """Additions to the values, as fractions of the modality's largest value."""
    noise: NoisePool | None
    noise_starts: Sequence[Sequence[int]]
    """Of every plane, from `NoisePool.draw`; empty without noise."""
    noise_deviation: float
    kept: Bool[Tensor, "C"] | None
    """Modalities that are not blanked."""

    @property
    def any(self) -> bool:
        """Whether anything changes."""
        return any(
            change is not None for change in (self.exponents, self.bias, self.brighter, self.noise, self.kept)
        )


def apply_changes(
    image: Float[Tensor, "C X Y Z"], changes: IntensityParams, *, in_place: bool = False
) -> Float[Tensor, "C X Y Z"]:
    """The changed volume in the number format of the given one, which stays unless it is changed in place."""
    device = image.device
    changed = image if in_place else planes.empty(image.shape, image.dtype, device)
    at_once = 1 if planes.on_cpu(image) else DEVICE_PLANES
    waves = [_cosines(length).to(device) for length in image.shape[1:]]
    low = high = torch.zeros(len(image), 1, 1, device=device)
    if changes.exponents is not None or changes.bias is not None:
        low = smallest(image)[:, None, None]
    if changes.exponents is not None or changes.brighter is not None:
        high = largest(image)[:, None, None]
    buffer = torch.empty(at_once, len(image), *image.shape[2:], device=device)
    for first in range(0, image.shape[1], at_once):
        part = slice(first, min(first + at_once, image.shape[1]))
        slab = buffer[: part.stop - first].copy_(image[:, part].movedim(1, 0))
        if changes.exponents is not None:
            span = (high - low).clamp(min=torch.finfo(torch.float32).tiny)
            exponents = changes.exponents[:, None, None].to(device)
            slab.sub_(low).div_(span).pow_(exponents).mul_(span).add_(low)
        if changes.bias is not None:
            log = torch.einsum("cijk,si,yj,zk->scyz", changes.bias.to(device), waves[0][part], *waves[1:])
            slab.sub_(low).mul_(log.exp_()).add_(low)
        if changes.brighter is not None:
            slab.add_(changes.brighter[:, None, None].to(device) * high)
        if changes.noise is not None:
            for plane, starts in zip(slab, changes.noise_starts[part], strict=True):
                changes.noise.add_to(plane, starts, changes.noise_deviation)
        if changes.kept is not None:
            slab[:, ~changes.kept.to(device)] = 0
        changed[:, part] = slab.movedim(0, 1)
    return changed


def _cosines(length: int) -> Float[Tensor, "length 3"]:
    """Cosines with 0, 1 and 2 half periods along an axis."""
    places = (torch.arange(length) + 0.5) / length
    return torch.cos(torch.pi * places[:, None] * torch.arange(3))
