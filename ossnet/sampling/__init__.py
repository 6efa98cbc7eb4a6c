"""Drawing training data from cases: order, points, patches, augmentation, batches."""

from ossnet.sampling.config import AugmentationConfig, SamplingConfig

__all__ = ["AugmentationConfig", "SamplingConfig"]
