"""Networks: one a file, a registry, the paper's presets; torch, and monai for U-Nets."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
