"""Drawing training data from cases: order, points, patches, augmentation, batches."""

from ossnet.sampling.config import SamplingConfig
from ossnet.sampling.transforms.augmentation import AugmentationConfig

__all__ = ["AugmentationConfig", "SamplingConfig"]
