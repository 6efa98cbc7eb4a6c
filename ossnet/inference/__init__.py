"""Prediction of whole volumes, on the working grid and on a scan's own. Imports neither Ray nor MLflow."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
