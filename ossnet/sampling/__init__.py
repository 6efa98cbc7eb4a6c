"""Drawing training data from cases: order, points, patches, augmentation, batches."""

from ossnet.sampling.augmentation import AugmentationConfig
from ossnet.sampling.settings import SamplingConfig

__all__ = ["AugmentationConfig", "SamplingConfig"]
