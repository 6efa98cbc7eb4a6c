"""Peak memory, defined once: on CUDA from the allocator, on the CPU by tracking storages, real or fake."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
