"""What a configuration will need before it is trained: peak memory, by one step or by none."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
