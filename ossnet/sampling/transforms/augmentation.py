"""Augmentation of a case before points are drawn: the paper's by default, others by strength or by name.

Letters: C channels, X Y Z voxel axes in nibabel's order.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ossnet.errors import UserError
from ossnet.sampling.config import TRANSFORMS, AugmentationConfig
from ossnet.sampling.transforms.affine import warp
from ossnet.sampling.transforms.intensity import IntensityParams, NoisePool, apply_changes
from ossnet.sampling.transforms.planes import as_tensor


@dataclass(frozen=True)
class AugmentedCase:
    """A case as a training step sees it once it is mirrored; the case's own memory where nothing changed."""

    image: Float[Tensor, "C X Y Z"]
    """Not mirrored yet."""
    label: UInt8[Tensor, "X Y Z"]
    """Codes, not mirrored yet."""
    mirrored: tuple[int, ...]
    """Voxel axes to mirror."""
    warped: bool
    """Whether the label is another than the case's."""

    def mirror_image(self, channel: int) -> Float[Tensor, "X Y Z"]:
        """A mirrored modality: a copy, or a view of the image without an axis to mirror."""
        modality = self.image[channel]
        return modality.flip(self.mirrored) if self.mirrored else modality

    def mirror_label(self) -> UInt8[Tensor, "X Y Z"]:
        """The mirrored label: a copy, or the label itself without an axis to mirror."""
        return self.label.flip(self.mirrored) if self.mirrored else self.label


class Augmenter:
    """Augments cases; equal generators give equal results wherever the seed is the same.

    All random numbers come from generators of the CPU, so they are the same on every device.
    """

    def __init__(self, config: AugmentationConfig, seed: int, device: torch.device | None = None) -> None:
        self._config = config
        self._noise = NoisePool(seed, device or torch.device("cpu")) if config.noisy else None

    def __call__(
        self,
        image: Float[Tensor, "C X Y Z"],
        label: UInt8[Tensor, "X Y Z"],
        spacing: Sequence[float],
        generator: torch.Generator,
        *,
        in_place: bool = False,
    ) -> AugmentedCase:
        """Augment a case on its device; the inputs stay as they are.

        Args:
            label: codes.
            spacing: in mm along X, Y and Z; a rotation turns the patient, not the voxels.
            in_place: whether the image may be changed instead.
        """
        mirrored = self._draw_flip(generator)
        turn, scale = self._draw_warp(generator)
        changes = self._draw_changes(image.shape, generator)
        warped = turn is not None or scale != 1
        if warped:
            image, label = warp(image, label, spacing, degrees=turn or (0, 0, 0), scale=scale)
        if changes.any:
            image = apply_changes(image, changes, in_place=in_place or warped)
        for name in self._config.extra:
            if self._applies(1, generator):
                image, changed = _transform(name, image, label, spacing, generator)
                warped, label = warped or changed is not label, changed
        return AugmentedCase(image, label, mirrored, warped)

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

    def _draw_changes(self, shape: Sequence[int], generator: torch.Generator) -> IntensityParams:
        config, channels = self._config, shape[0]
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
            noise_starts=noise.draw(shape, generator) if noise else (),
            noise_deviation=config.noise,
            kept=kept,
        )


def _transform(
    name: str, image: Tensor, label: Tensor, spacing: Sequence[float], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Apply a package's transform, on the CPU; the given label itself where that stays.

    Raises:
        UserError: it gives other shapes than it was given.
    """
    given = image.cpu().numpy().view(), label.cpu().numpy().view()
    for array in given:
        array.flags.writeable = False
    new_image, new_label = TRANSFORMS.plugins()[name](*given, spacing, generator)
    if new_image.shape != given[0].shape or new_label.shape != given[1].shape:
        raise UserError(
            TRANSFORMS.origin(name),
            expected=f"an image {given[0].shape} and a label {given[1].shape}",
            found=f"{new_image.shape} and {new_label.shape}",
            remedy="repair it, or leave it out of augmentation.extra",
        )
    changed = as_tensor(new_image.astype(given[0].dtype, copy=False)).to(image.device)
    if new_label is given[1]:
        return changed, label
    return changed, as_tensor(new_label.astype(given[1].dtype, copy=False)).to(label.device)


def _signed(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Uniform between -1 and 1."""
    return 2 * torch.rand(tuple(shape), generator=generator) - 1
