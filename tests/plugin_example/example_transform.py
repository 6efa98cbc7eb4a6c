"""A transform in one file: inverted contrast."""

from collections.abc import Sequence

import numpy as np
import torch


def invert(
    image: np.ndarray, label: np.ndarray, spacing: Sequence[float], generator: torch.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Mirror the values of one modality, drawn by the generator, between its extremes; the label stays."""
    channel = int(torch.randint(len(image), (), generator=generator))
    inverted = image.copy()
    inverted[channel] = image[channel].max() + image[channel].min() - image[channel]
    return inverted, label
