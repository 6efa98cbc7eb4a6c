"""Peak memory, defined once: on CUDA from the allocator, on the CPU by tracking storages, real or fake."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ossnet.memory.peak import PROTOCOL, PeakMemory
    from ossnet.memory.storage_tracker import StorageTracker
    from ossnet.memory.tracker import track_peak

__all__ = ["PROTOCOL", "PeakMemory", "StorageTracker", "track_peak"]

_MODULES = {
    "PROTOCOL": "peak",
    "PeakMemory": "peak",
    "StorageTracker": "storage_tracker",
    "track_peak": "tracker",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
