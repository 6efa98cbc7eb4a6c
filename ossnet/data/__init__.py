"""Scans in and out: layouts, NIfTI, checks, normalization, splits, phantoms and the store. No Ray here."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ossnet.data.imaging.geometry import Geometry
    from ossnet.data.imaging.nifti import write_nifti
    from ossnet.data.imaging.preprocessing import Scan, preprocess, preprocess_label
    from ossnet.data.imaging.resampling import restore
    from ossnet.data.labels.task import Task
    from ossnet.data.layouts import Case, Source, read_source
    from ossnet.data.phantom import write_phantom
    from ossnet.data.prepare.build import PrepareReport
    from ossnet.data.prepare.config import PrepareConfig
    from ossnet.data.store.store import Store, StoredCase
    from ossnet.data.verification import Issue, Verification, verify, verify_store

# Looked up on first use, so that importing the package costs neither nibabel nor pyarrow.
_HOMES = {
    "Case": "layouts",
    "Issue": "verification",
    "Geometry": "imaging.geometry",
    "PrepareConfig": "prepare.config",
    "PrepareReport": "prepare.build",
    "Scan": "imaging.preprocessing",
    "Source": "layouts",
    "Store": "store.store",
    "StoredCase": "store.store",
    "Task": "labels.task",
    "Verification": "verification",
    "preprocess": "imaging.preprocessing",
    "preprocess_label": "imaging.preprocessing",
    "read_source": "layouts",
    "restore": "imaging.resampling",
    "verify": "verification",
    "verify_store": "verification",
    "write_nifti": "imaging.nifti",
    "write_phantom": "phantom",
}

__all__ = [
    "Case",
    "Geometry",
    "Issue",
    "PrepareConfig",
    "PrepareReport",
    "Scan",
    "Source",
    "Store",
    "StoredCase",
    "Task",
    "Verification",
    "preprocess",
    "preprocess_label",
    "read_source",
    "restore",
    "verify",
    "verify_store",
    "write_nifti",
    "write_phantom",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
