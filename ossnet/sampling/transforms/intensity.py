"""Changes of voxel values, made in one pass over a volume in float16.

Letters: C channels, X Y Z voxel axes in nibabel's order.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ossnet.sampling.transforms.planes import PlaneReader, largest, smallest

_POOL = 2**22
_RUN = 2**18


class NoisePool:
    """Gaussian noise drawn once and read from random places on: tenfold as fast as drawing it anew.

    Every plane begins at a place of its own, so neighboring voxels are as independent as
    ever; that far-away voxels may share a value is the only deviation.
    """

    def __init__(self, seed: int) -> None:
        self._values = torch.randn(_POOL, generator=torch.Generator().manual_seed(seed))

    def add_to(self, plane: Float[Tensor, "C Y Z"], deviation: float, generator: torch.Generator) -> None:
        """Add noise to a contiguous plane of all channels, in place."""
        for run in plane.view(-1).split(_RUN):
            start = int(torch.randint(_POOL - len(run), (), generator=generator))
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
    image: Float[np.ndarray, "C X Y Z"], changes: IntensityParams, generator: torch.Generator
) -> Float[np.ndarray, "C X Y Z"]:
    """The changed volume in the number format of the given one, which stays."""
    changed = np.empty(image.shape, image.dtype)  # numpy requests large pages, torch does not
    waves = [_cosines(length) for length in image.shape[1:]]
    low = high = torch.zeros(len(image), 1, 1)
    if changes.exponents is not None or changes.bias is not None:
        low = smallest(image)[:, None, None]
    if changes.exponents is not None or changes.brighter is not None:
        high = largest(image)[:, None, None]
    target, planes = torch.from_numpy(changed), PlaneReader(image)
    for x in range(len(planes)):
        plane = planes[x]
        if changes.exponents is not None:
            span = (high - low).clamp(min=torch.finfo(torch.float32).tiny)
            plane.sub_(low).div_(span).pow_(changes.exponents[:, None, None]).mul_(span).add_(low)
        if changes.bias is not None:
            log = torch.einsum("cijk,i,yj,zk->cyz", changes.bias, waves[0][x], waves[1], waves[2])
            plane.sub_(low).mul_(log.exp_()).add_(low)
        if changes.brighter is not None:
            plane.add_(changes.brighter[:, None, None] * high)
        if changes.noise is not None:
            changes.noise.add_to(plane, changes.noise_deviation, generator)
        if changes.kept is not None:
            plane[~changes.kept] = 0
        target[:, x] = plane
    return changed


def _cosines(length: int) -> Float[Tensor, "length 3"]:
    """Cosines with 0, 1 and 2 half periods along an axis."""
    places = (torch.arange(length) + 0.5) / length
    return torch.cos(torch.pi * places[:, None] * torch.arange(3))
