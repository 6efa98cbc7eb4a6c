"""A prepared data set on disk: `manifest.json`, written last, and a memory-mappable file a case.

Legend: X Y Z voxel axes in nibabel order.
"""

import json
import uuid
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ossnet.data.casefile import CaseFacts, StoredCase, read_case
from ossnet.data.geometry import Shape, Spacing
from ossnet.data.normalisation import Intensity
from ossnet.data.splits import SPLITS, check_splits
from ossnet.data.task import Task
from ossnet.errors import UserError
from ossnet.tree import from_dict, to_dict, unknown

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
CASES = "cases"


@dataclass(frozen=True)
class CaseEntry:
    """A case as the manifest lists it."""

    file: str
    """Relative to the store; its name carries the digest of what it was made from."""
    group: str
    shape: Shape
    spacing: Spacing
    class_counts: tuple[int, ...]
    intensities: tuple[Intensity, ...]

    @classmethod
    def of(cls, facts: CaseFacts, file: str) -> "CaseEntry":
        """From what the case file says of itself."""
        return cls(
            file=file,
            group=facts.group,
            shape=facts.shape[1:],
            spacing=facts.geometry.spacing,
            class_counts=facts.class_counts,
            intensities=facts.intensities,
        )


@dataclass(frozen=True)
class Manifest:
    """All that a store knows without opening a case."""

    schema_version: int
    fingerprint: str
    """Digest of the input files' content and of every option that shapes the store."""
    configuration: dict[str, Any]
    task: Task
    statistics: dict[str, Any]
    """`max_shape`, `median_shape`, `median_spacing`, `class_frequencies` by label, `intensities` by
    modality."""
    splits: dict[str, tuple[str, ...]]
    cases: dict[str, CaseEntry]
    set_aside: dict[str, str]
    """Cases (or files) that were left out, each with the reason."""


class Store:
    """A prepared data set; cheap to open, safe to share between processes."""

    def __init__(self, root: Path, manifest: Manifest) -> None:
        self.root = root
        self.manifest = manifest

    @classmethod
    def open(cls, path: Path) -> "Store":
        """Open a store.

        Raises:
            UserError: no store there, one of another schema version, a damaged manifest, or splits that share
                a group.
        """
        return cls(path, read_manifest(path))

    @property
    def task(self) -> Task:
        """Modalities, labels and preprocessing that the cases went through."""
        return self.manifest.task

    @cached_property
    def max_shape(self) -> Shape:
        """The largest extent along each axis over all cases."""
        first, second, third = (
            max(case.shape[axis] for case in self.manifest.cases.values()) for axis in range(3)
        )
        return first, second, third

    def split(self, name: str) -> tuple[str, ...]:
        """Case ids of `training`, `validation`, `test` or `all`, sorted.

        Raises:
            UserError: another name.
        """
        if name == "all":
            return tuple(sorted(self.manifest.cases))
        if name not in SPLITS:
            raise UserError(unknown("split", name, [*SPLITS, "all"]))
        return self.manifest.splits[name]

    def case(self, case_id: str) -> StoredCase:
        """Map a case into memory.

        Raises:
            UserError: an unknown id, or a file that is gone or damaged.
        """
        if case_id not in self.manifest.cases:
            raise UserError(unknown(f"case of {self.root}", case_id, self.manifest.cases))
        return read_case(self.root / self.manifest.cases[case_id].file)


def read_manifest(root: Path) -> Manifest:
    """Read and judge `manifest.json`; errors as for `Store.open`."""
    version = read_version(root)
    path = root / MANIFEST
    if version != SCHEMA_VERSION:
        remedy = "update ossnet" if version > SCHEMA_VERSION else "prepare it again"
        msg = f"{path}: expected store schema version {SCHEMA_VERSION}, found {version}; {remedy}"
        raise UserError(msg)
    manifest = from_dict(Manifest, json.loads(path.read_text()), str(path))
    check_splits(manifest.splits, {case: entry.group for case, entry in manifest.cases.items()})
    return manifest


def read_version(root: Path) -> int:
    """The schema version of a store.

    Raises:
        UserError: no store there, or a damaged manifest.
    """
    path = root / MANIFEST
    if not root.is_dir():
        msg = f"{root}: store not found; make it with jobs/prepare.py --output {root}"
        raise UserError(msg)
    if not path.is_file():
        msg = f"{root}: expected a store, found no {MANIFEST}; run jobs/prepare.py to its end"
        raise UserError(msg)
    try:
        return int(json.loads(path.read_text())["schema_version"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"{path}: expected a store's manifest, found something else; remove it and prepare again"
        raise UserError(msg) from error


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Write the manifest aside and rename it: with this the store exists."""
    aside = root / f".{uuid.uuid4().hex}-{MANIFEST}"
    try:
        aside.write_text(json.dumps(to_dict(manifest), indent=1))
        aside.replace(root / MANIFEST)
    finally:
        aside.unlink(missing_ok=True)
