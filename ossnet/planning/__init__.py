"""What a configuration needs before it is trained: its peak memory, measured or predicted."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ossnet.planning.peak import measure, predict

__all__ = ["measure", "predict"]


def __getattr__(name: str) -> Any:
    """Import what needs torch when it is first used."""
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.peak"), name)
