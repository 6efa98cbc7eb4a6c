"""Scans in and out: layouts, NIfTI, checks, normalization, splits, phantoms and the store. No Ray here."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
