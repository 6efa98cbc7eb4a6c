"""Augmentation of a case before points are drawn: the paper's by default, others by strength or by name.

Letters: C channels, X Y Z voxel axes in nibabel's order.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ossnet.config_tree import unknown_name
from ossnet.errors import UserError
from ossnet.plugins import Group
from ossnet.sampling.transforms.affine import warp
from ossnet.sampling.transforms.intensity import IntensityParams, NoisePool, apply_changes

Transform = Callable[
    [np.ndarray, np.ndarray, Sequence[float], torch.Generator], tuple[np.ndarray, np.ndarray]
]
"""A transform from a package: of the image `[C X Y Z]`, the label `[X Y Z]` (codes), the spacing in mm and a
seeded generator; the new image and label, of the same shapes. The given arrays are read-only, and the label
is returned as it was given where it stays."""


def _check_plugin(_: str, value: object) -> Transform:
    if not callable(value):
        raise ValueError(f"expected a function of image, label, spacing and generator, found {value!r}")
    return value


_PLUGINS = Group(
    "ossnet.transforms",
    check=_check_plugin,
    built_in=("flip", "brightness", "noise", "rotation", "scale", "gamma", "bias_field", "modality_dropout"),
)


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
            if name not in _PLUGINS.plugins():
                remedy = "install the package that brings it"
                raise unknown_name("extra", "transform", name, _PLUGINS.plugins(), remedy=remedy)
        for name, below in (("probability", 1.0001), ("scale", 1), ("modality_dropout", 1)):
            if not 0 <= getattr(self, name) < below:
                found = str(getattr(self, name))
                raise UserError(name, expected=f"a fraction from 0 to {int(below)}", found=found)


@dataclass(frozen=True)
class AugmentedCase:
    """A case as a training step sees it; views of the case's memory where nothing but a flip was done."""

    image: Float[np.ndarray, "C X Y Z"]
    label: UInt8[np.ndarray, "X Y Z"]
    mirrored: tuple[int, ...]
    """Voxel axes that run the other way."""
    warped: bool
    """Whether the label is another than the case's, mirrored or not."""


class Augmenter:
    """Augments cases; equal generators give equal results wherever the seed is the same."""

    def __init__(self, config: AugmentationConfig, seed: int) -> None:
        self._config = config
        self._noise = NoisePool(seed) if config.noise and config.probability else None

    def __call__(
        self,
        image: Float[np.ndarray, "C X Y Z"],
        label: UInt8[np.ndarray, "X Y Z"],
        spacing: Sequence[float],
        generator: torch.Generator,
    ) -> AugmentedCase:
        """Augment a case; the inputs stay as they are.

        Args:
            spacing: in mm along X, Y and Z; a rotation turns the patient, not the voxels.
        """
        mirrored = self._draw_flip(generator)
        turn, scale = self._draw_warp(generator)
        changes = self._draw_changes(len(image), generator)
        warped = turn is not None or scale != 1
        if warped:
            image, label = warp(image, label, spacing, degrees=turn or (0, 0, 0), scale=scale)
        if changes.any:
            image = apply_changes(image, changes, generator)
        for name in self._config.extra:
            if self._applies(1, generator):
                image, changed = _transform(name, image, label, spacing, generator)
                warped, label = warped or changed is not label, changed
        axes = tuple(axis + 1 for axis in mirrored)
        return AugmentedCase(np.flip(image, axes), np.flip(label, mirrored), mirrored, warped)

    def _applies(self, strength: float, generator: torch.Generator) -> bool:
        return bool(strength) and float(torch.rand((), generator=generator)) < self._config.probability

    def _draw_flip(self, generator: torch.Generator) -> tuple[int, ...]:
        if not self._applies(self._config.flip, generator):
            return ()
        return ((0,), (1,), (0, 1), (0, 1))[int(torch.randint(4, (), generator=generator))]

    def _draw_warp(self, generator: torch.Generator) -> tuple[tuple[float, float, float] | None, float]:
        turn, scale = None, 1.0
        if self._applies(self._config.rotation, generator):
            x, y, z = (self._config.rotation * _signed((3,), generator)).tolist()
            turn = (x, y, z)
        if self._applies(self._config.scale, generator):
            scale = 1 + self._config.scale * float(_signed((), generator))
        return turn, scale

    def _draw_changes(self, channels: int, generator: torch.Generator) -> IntensityParams:
        config = self._config
        exponents = bias = brighter = kept = None
        if self._applies(config.gamma, generator):
            exponents = (1 + config.gamma) ** _signed((channels,), generator)
        if self._applies(config.bias_field, generator):
            waves = _signed((channels, 3, 3, 3), generator)
            bias = config.bias_field * waves / waves.abs().sum(dim=(1, 2, 3), keepdim=True)
        if self._applies(config.brightness, generator):
            brighter = config.brightness * _signed((channels,), generator)
        noise = self._noise if self._applies(config.noise, generator) else None
        if self._applies(config.modality_dropout, generator):
            kept = torch.rand(channels, generator=generator) >= config.modality_dropout
            kept[int(torch.randint(channels, (), generator=generator))] = True
        return IntensityParams(
            exponents=exponents,
            bias=bias,
            brighter=brighter,
            noise=noise,
            noise_deviation=config.noise,
            kept=kept,
        )


def _transform(
    name: str, image: np.ndarray, label: np.ndarray, spacing: Sequence[float], generator: torch.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Apply a package's transform; the given label itself where that stays.

    Raises:
        UserError: it gives other shapes than it was given.
    """
    given = image.view(), label.view()
    for array in given:
        array.flags.writeable = False
    new_image, new_label = _PLUGINS.plugins()[name](*given, spacing, generator)
    if new_image.shape != image.shape or new_label.shape != label.shape:
        raise UserError(
            _PLUGINS.origin(name),
            expected=f"an image {image.shape} and a label {label.shape}",
            found=f"{new_image.shape} and {new_label.shape}",
            remedy="repair it, or leave it out of augmentation.extra",
        )
    same = new_label is given[1]
    return new_image.astype(image.dtype, copy=False), label if same else new_label.astype(label.dtype)


def _signed(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Uniform between -1 and 1."""
    return 2 * torch.rand(tuple(shape), generator=generator) - 1
