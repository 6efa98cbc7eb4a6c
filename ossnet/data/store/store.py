"""A prepared data set on disk: `manifest.json`, written last, and a memory-mappable file a case.

Legend: X Y Z voxel axes in nibabel order.
"""

import json
import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ossnet.config_tree import from_dict, to_dict, unknown_name
from ossnet.data.imaging.geometry import Shape
from ossnet.data.labels.task import Task
from ossnet.data.store.case_file import StoredCase, read_case
from ossnet.data.store.quantization import Storage
from ossnet.data.store.splits import SPLITS, check_splits
from ossnet.data.store.statistics import CaseStatistics, DatasetStatistics
from ossnet.errors import UserError
from ossnet.output.atomic_write import atomic_write

SCHEMA_VERSION = 3
MANIFEST = "manifest.json"
CASES = "cases"


@dataclass(frozen=True)
class CaseEntry:
    """A case as the manifest lists it."""

    file: str
    """Relative to the store; its name carries the digest of what it was made from."""
    group: str
    statistics: CaseStatistics


@dataclass(frozen=True)
class Manifest:
    """The description of a store, read without opening a case."""

    schema_version: int
    fingerprint: str
    """Digest of the input files' content and of every option that shapes the store."""
    configuration: dict[str, Any]
    task: Task
    statistics: DatasetStatistics
    splits: dict[str, tuple[str, ...]]
    folds: tuple[tuple[str, ...], ...]
    """The cases outside the test split in parts, of which each may validate what the others train."""
    cases: dict[str, CaseEntry]
    excluded: dict[str, str]
    """Cases (or files) that were excluded, each with the reason."""


class Store:
    """A prepared data set; cheap to open, safe to share between processes.

    Its test split can only be read where it was opened for that: training and tuning never do.
    """

    def __init__(self, root: Path, manifest: Manifest, *, with_test: bool = False) -> None:
        self.root = root
        self.manifest = manifest
        self._held_out = frozenset() if with_test else frozenset(manifest.splits["test"])

    @classmethod
    def open(cls, path: Path, *, with_test: bool = False) -> "Store":
        """Open a store.

        Args:
            with_test: whether the test split may be read.

        Raises:
            UserError: no store there, one of another schema version, a damaged manifest, or splits that share
                a group.
        """
        return cls(path, read_manifest(path), with_test=with_test)

    @property
    def task(self) -> Task:
        """Modalities, labels and preprocessing that the cases went through."""
        return self.manifest.task

    @cached_property
    def max_shape(self) -> Shape:
        """The largest extent along each axis over all cases."""
        shapes = [entry.statistics.shape for entry in self.manifest.cases.values()]
        first, second, third = (max(axis) for axis in zip(*shapes, strict=True))
        return first, second, third

    @property
    def training_cases(self) -> int:
        """Number of cases of the training split."""
        return len(self.manifest.splits["training"])

    @cached_property
    def storage(self) -> Storage:
        """The number format of the images: int16 if any case has it."""
        formats = {entry.statistics.storage for entry in self.manifest.cases.values()}
        return "int16" if "int16" in formats else "float16"

    def split(self, name: str, *, fold: int | None = None) -> tuple[str, ...]:
        """Case ids of `training`, `validation`, `test` or `all`, sorted.

        Args:
            fold: the fold that validates what the others train, instead of the splits.

        Raises:
            UserError: another name or fold, or cases of the test split where it may not be read.
        """
        if name not in [*SPLITS, "all"]:
            raise unknown_name(self.root, "split", name, [*SPLITS, "all"])
        if fold is not None and name in ("training", "validation"):
            cases = self._fold(name, fold)
        else:
            cases = tuple(sorted(self.manifest.cases)) if name == "all" else self.manifest.splits[name]
        if not self._held_out.isdisjoint(cases):
            raise self._held_out_error(f"the {name} split")
        return cases

    def case(self, case_id: str) -> StoredCase:
        """Map a case into memory.

        Raises:
            UserError: an unknown id, one of the test split where it may not be read, or a file that is gone
                or damaged.
        """
        if case_id not in self.manifest.cases:
            raise unknown_name(self.root, "case", case_id, self.manifest.cases)
        if case_id in self._held_out:
            raise self._held_out_error(case_id)
        return read_case(self.root / self.manifest.cases[case_id].file)

    def _fold(self, name: str, fold: int) -> tuple[str, ...]:
        folds = self.manifest.folds
        if not 0 <= fold < len(folds):
            found = f"{len(folds)} folds, counted from 0" if folds else "no folds"
            raise UserError(
                self.root, expected=f"the fold {fold}", found=found, remedy="prepare with --folds"
            )
        if name == "validation":
            return folds[fold]
        return tuple(sorted(case for other, part in enumerate(folds) if other != fold for case in part))

    def _held_out_error(self, wanted: str) -> UserError:
        return UserError(
            self.root,
            expected="training and validation cases",
            found=f"{wanted}, which is held out for the end",
            remedy="use ossnet evaluate, which alone reads the test split",
        )


def read_manifest(root: Path) -> Manifest:
    """Read and check `manifest.json`.

    Raises:
        UserError: as `Store.open`.
    """
    manifest = parse_manifest(root)
    groups = {case: entry.group for case, entry in manifest.cases.items()}
    folds = {f"fold {number}": fold for number, fold in enumerate(manifest.folds)}
    where = root / MANIFEST
    check_splits(manifest.splits, groups, where=where)
    check_splits({**folds, "test": manifest.splits["test"]} if folds else {}, groups, where=where)
    return manifest


def parse_manifest(root: Path) -> Manifest:
    """Read `manifest.json` as it is, even where a group is in two splits.

    Raises:
        UserError: no store there, one of another schema version, or a damaged manifest.
    """
    check_version(root)
    path = root / MANIFEST
    return from_dict(Manifest, json.loads(path.read_text()), str(path))


def check_version(root: Path) -> None:
    """Reject a store of another schema version.

    Raises:
        UserError: says how to get one of this version.
    """
    version = read_version(root)
    if version != SCHEMA_VERSION:
        older = f"make it anew with ossnet prepare --output {shlex.quote(str(root))}"
        raise UserError(
            root / MANIFEST,
            expected=f"store schema version {SCHEMA_VERSION}",
            found=f"version {version}",
            remedy="update ossnet" if version > SCHEMA_VERSION else older,
        )


def read_version(root: Path) -> int:
    """The schema version of a store.

    Raises:
        UserError: no store there, or a damaged manifest.
    """
    path = root / MANIFEST
    if not root.is_dir():
        raise UserError(
            root,
            expected="a store",
            found="no such folder",
            remedy=f"make it with ossnet prepare --output {shlex.quote(str(root))}",
        )
    if not path.is_file():
        raise UserError(
            root, expected="a store", found=f"no {MANIFEST}", remedy="run ossnet prepare to its end"
        )
    try:
        return int(json.loads(path.read_text())["schema_version"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            path,
            expected="a store's manifest",
            found="something else",
            remedy="remove it and prepare again",
        ) from error


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Write the manifest atomically: with this the store exists."""
    atomic_write(root / MANIFEST, json.dumps(to_dict(manifest), indent=1))
