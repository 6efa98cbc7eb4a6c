"""The paper's augmentations, on a whole case before points are drawn (spec of the reference, training only).

Letters: C channels, X Y Z voxel axes in nibabel's order.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class AugmentationConfig:
    """Each augmentation is applied independently with `probability`."""

    probability: float = 0.5
    """Chance of each of the three (paper: 0.5; 0 switches augmentation off)."""
    flip: bool = True
    """Mirror along the first axis, the second or both."""
    brightness: float = 0.15
    """Add up to this share of a modality's largest value, either sign, to all its voxels."""
    noise: float = 0.15
    """Standard deviation of the Gaussian noise added to every voxel."""


def augment(
    image: Float[Tensor, "C X Y Z"],
    label: Int[Tensor, "X Y Z"],
    config: AugmentationConfig,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """A case as a training step sees it; the inputs stay as they are."""

    def applies() -> bool:
        return float(torch.rand((), generator=generator)) < config.probability

    if applies() and config.flip:
        axes = [[-3], [-2], [-3, -2], [-3, -2]][int(torch.randint(4, (), generator=generator))]
        image, label = image.flip(axes), label.flip(axes)
    if applies() and config.brightness:
        shift = (2 * torch.rand(len(image), generator=generator) - 1) * config.brightness
        image = image + (shift * image.amax(dim=(1, 2, 3)))[:, None, None, None]
    if applies() and config.noise:
        image = image + config.noise * torch.randn(image.shape, generator=generator)
    return image, label
