"""What a configuration will need before it is trained: peak memory, by one step or by none."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ossnet.planning.peak import measure, predict

__all__ = ["measure", "predict"]


def __getattr__(name: str) -> Any:
    """What needs torch is loaded when it is asked for."""
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.peak"), name)
