"""Verification of a folder of scans or a store: every fault, file by file, with its remedy.

Cases with an error here are those that preparing excludes: both use the same checks.
"""

from ossnet.data.verification.issues import Issue, LabelRemap, Verification
from ossnet.data.verification.source_check import verify
from ossnet.data.verification.store_check import verify_store

__all__ = ["Issue", "LabelRemap", "Verification", "verify", "verify_store"]
