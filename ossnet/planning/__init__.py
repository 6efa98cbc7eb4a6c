"""Planning of a configuration before it is trained: its peak memory, measured or predicted."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
