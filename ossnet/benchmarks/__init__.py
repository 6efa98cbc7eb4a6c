"""Comparisons of networks, input pipelines, predicted memory and inference methods, without Ray."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
