"""Evaluation on full volumes: metrics with a stated policy for empty cases, summaries, figures."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
