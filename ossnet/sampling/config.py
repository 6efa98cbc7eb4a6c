"""Configuration of sampling and of augmentation. Light: no torch here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from ossnet.config_tree import unknown_name
from ossnet.errors import UserError
from ossnet.plugins import Group

if TYPE_CHECKING:
    import torch


Transform = Callable[
    [np.ndarray, np.ndarray, Sequence[float], "torch.Generator"], tuple[np.ndarray, np.ndarray]
]
"""A transform from a package: of the image `[C X Y Z]`, the label `[X Y Z]` (codes), the spacing in mm and a
seeded generator; the new image and label, of the same shapes. The given arrays are read-only, and the label
is returned as it was given where it stays."""


def _check_plugin(_: str, value: object) -> Transform:
    if not callable(value):
        raise ValueError(f"expected a function of image, label, spacing and generator, found {value!r}")
    return value


TRANSFORMS = Group(
    "ossnet.transforms",
    check=_check_plugin,
    built_in=("flip", "brightness", "noise", "rotation", "scale", "gamma", "bias_field", "modality_dropout"),
)


@dataclass(frozen=True)
class SamplingConfig:
    """How training data is drawn from a case.

    The shares and the uniform rest add to one.
    """

    points: int = 2**14
    """Points a volume and step (the paper: 2^14)."""
    border_fraction: float = 0.0
    """Share of the points within `border_width` of the foreground's border (the paper: 0.5 for LiTS)."""
    foreground_fraction: float = 0.0
    """Share of the points inside the foreground, as many in each class that a case has."""
    gaussian_fraction: float = 0.0
    """Share of the points at random voxels of the foreground's surface, moved by a Gaussian."""
    uncertain_fraction: float = 0.0
    """Share of the points where the network is least sure among `uncertain_candidates` times as many."""
    border_width: float = 6.0
    """Distance that the border reaches to either side."""
    border_unit: Literal["mm", "voxels"] = "mm"
    """mm: distance to the nearest voxel of the other kind; voxels: the paper's, along the largest axis."""
    gaussian_width: float = 3.0
    """Standard deviation in mm along each axis."""
    uncertain_candidates: int = 3
    """Candidates, drawn uniformly, for each point kept (PointRend: 3)."""
    distance_reach: float = 10.0
    """Largest distance in mm that a network's distance head distinguishes."""
    crop_shape: tuple[int, int, int] | None = None
    """What a dense network trains on; nothing: the whole working volume."""
    slices: int = 16
    """Slices a volume and step for a 2-D network."""
    working_shape: tuple[int, int, int] | None = None
    """The grid every case is centered in; nothing: the study's largest case, rounded up for the network."""
    image_dtype: Literal["float16", "float32"] = "float16"
    """Precision of local patches: that of the store's voxels; of a store of whole numbers always float32."""

    def __post_init__(self) -> None:
        """Reject what cannot be drawn.

        Raises:
            UserError: names the field.
        """
        for name in ("points", "uncertain_candidates"):
            if getattr(self, name) < 1:
                raise UserError(name, expected="at least 1", found=str(getattr(self, name)))
        for name in ("distance_reach", "border_width", "gaussian_width"):
            if not 0 < getattr(self, name) < float("inf"):
                raise UserError(name, expected="a number above 0", found=str(getattr(self, name)))
        if self.border_unit == "voxels" and self.border_width != int(self.border_width):
            found = str(self.border_width)
            raise UserError("border_width", expected="a whole number of voxels", found=found)
        names = ("border_fraction", "foreground_fraction", "gaussian_fraction", "uncertain_fraction")
        fractions = [getattr(self, name) for name in names]
        if not (min(fractions) >= 0 and sum(fractions) <= 1 + 1e-9):  # a sum of floats may round up
            found = ", ".join(map(str, fractions))
            raise UserError(
                ", ".join(names), expected="positive fractions of at most 1 together", found=found
            )

    @property
    def uncertain_points(self) -> int:
        """Points kept of `candidates`."""
        return int(self.points * self.uncertain_fraction)

    @property
    def candidates(self) -> int:
        """Points drawn for the network to choose among."""
        return self.uncertain_points * self.uncertain_candidates

    @property
    def drawn(self) -> int:
        """Points drawn a volume and step: those that are kept anyway, and the candidates."""
        return self.points - self.uncertain_points + self.candidates


@dataclass(frozen=True)
class AugmentationConfig:
    """Each augmentation is applied independently with `probability`; a strength of 0 switches it off.

    Flip, brightness and noise are the paper's, all others go beyond it.
    """

    probability: float = 0.5
    """Chance of each augmentation (paper: 0.5; 0 switches all off)."""
    flip: bool = True
    """Mirror along the first axis, the second or both."""
    brightness: float = 0.15
    """Add up to this share of a modality's largest value, either sign, to all its voxels."""
    noise: float = 0.15
    """Standard deviation of the Gaussian noise added to every voxel."""
    rotation: float = 0.0
    """Turn by up to so many degrees about each axis; resamples the whole volume."""
    scale: float = 0.0
    """Enlarge or reduce by up to this fraction; resamples the whole volume."""
    gamma: float = 0.0
    """Raise a modality, between its extremes, to a power of up to 1 + gamma or its inverse."""
    bias_field: float = 0.0
    """Multiply a modality, above its smallest value, by a smooth field up to e^bias_field or its inverse."""
    modality_dropout: float = 0.0
    """Chance of each modality to be blanked; one is always left."""
    extra: tuple[str, ...] = ()
    """Transforms of installed packages to apply after these, by name."""

    def __post_init__(self) -> None:
        """Reject strengths that cannot be applied.

        Raises:
            UserError: names the field.
        """
        for name in ("brightness", "noise", "rotation", "gamma", "bias_field"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UserError(name, expected="0 or a positive number", found=str(getattr(self, name)))
        for name in self.extra:
            if name not in TRANSFORMS.plugins():
                remedy = "install the package that brings it"
                raise unknown_name("extra", "transform", name, TRANSFORMS.plugins(), remedy=remedy)
        for name, below in (("probability", 1.0001), ("scale", 1), ("modality_dropout", 1)):
            if not 0 <= getattr(self, name) < below:
                found = str(getattr(self, name))
                raise UserError(name, expected=f"a fraction from 0 to {int(below)}", found=found)

    @property
    def noisy(self) -> bool:
        """Whether noise is ever added."""
        return bool(self.noise and self.probability)

    @property
    def warps(self) -> bool:
        """Whether a volume is ever resampled."""
        return bool((self.rotation or self.scale) and self.probability)
