"""Networks, their input, their memory and ways to predict, each side by side and measured alike."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
