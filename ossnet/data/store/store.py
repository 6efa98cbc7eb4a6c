"""A prepared data set: `manifest.json`, written last, and a memory-mappable file a case.

Legend: X Y Z voxel axes in nibabel order.
"""

import json
import shlex
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ossnet import schemas
from ossnet.config_tree import from_dict, to_dict, unknown_name
from ossnet.data.imaging.geometry import Shape
from ossnet.data.labels.task import Task
from ossnet.data.store.cache import CachedCases, DataConfig, case_place
from ossnet.data.store.case_file import StoredCase, read_case
from ossnet.data.store.checked_files import CheckedFiles
from ossnet.data.store.location import ObjectStorage
from ossnet.data.store.quantization import Storage
from ossnet.data.store.splits import SPLITS, check_splits
from ossnet.data.store.statistics import CaseStatistics, DatasetStatistics
from ossnet.data.store.store_view import cases_frame, describe, store_html
from ossnet.errors import CaseError, UserError
from ossnet.output.atomic_write import atomic_write
from ossnet.output.remote.url import parse_location
from ossnet.output.views import one_line

if TYPE_CHECKING:
    import pandas as pd

MANIFEST = "manifest.json"
CASES = "cases"


@dataclass(frozen=True)
class CaseEntry:
    """A case as the manifest lists it."""

    file: str
    """Relative to the store; its name carries the digest of what it was made from."""
    group: str
    statistics: CaseStatistics
    digest: str | None = None
    """Checksum of its content, checked when a node first maps or copies it; stores of before have none."""


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


class CaseReader(Protocol):
    """Maps the cases of a store into memory. Threads may call it at the same time."""

    def read(self, case: str, file: str, digest: str | None) -> StoredCase:
        """Map a case.

        Args:
            case: its id.
            file: its file, relative to the store.
            digest: its checksum, where the store has one.

        Raises:
            CaseError: its file is gone, damaged or not one of ours; names the case and the node.
            StoreError: it cannot be read now, or not here.
        """
        ...


@dataclass(frozen=True)
class MappedCases:
    """The cases of a store whose files this node can map; each is checked when the node first maps it."""

    root: Path
    checked: CheckedFiles

    @classmethod
    def of(cls, root: Path, manifest: "Manifest", config: DataConfig) -> "MappedCases":
        """The cases in a folder, with the node's list of those that were checked."""
        return cls(root, CheckedFiles(config, manifest.fingerprint))

    def read(self, case: str, file: str, digest: str | None) -> StoredCase:
        """As `CaseReader.read`."""
        path = self.root / file
        place = case_place(path, case)
        try:
            stored = read_case(path)
            if digest is not None:
                self.checked.check(path, digest, place)
        except CaseError as error:
            raise error.at(place) from error
        except OSError as error:  # it was there a moment ago
            raise CaseError(
                place, expected="its file", found="none", remedy="prepare the store again"
            ) from error
        return stored


class Store:
    """A prepared data set; cheap to open, safe to share between processes.

    Its test split can only be read where it was opened for that: training and tuning never do.

    Examples:
        >>> store = Store.open("runs/store")
        >>> store.split("validation")
        ('phantom_004', 'phantom_005')
        >>> store.case("phantom_004").image.shape
        (4, 28, 26, 22)
        >>> store.task.modalities
        ('FLAIR', 'T1w', 'T1gd', 'T2w')

    Args:
        root: its folder, or its URL.
        reader: reads its cases; by default from the folder's files, or through the node's cache from the URL.
    """

    def __init__(
        self,
        root: Path | str,
        manifest: Manifest,
        *,
        with_test: bool = False,
        reader: CaseReader | None = None,
    ) -> None:
        self.root = root
        self.manifest = manifest
        self._reader = reader or case_reader(root, manifest, DataConfig())
        self._held_out = frozenset() if with_test else frozenset(manifest.splits["test"])

    @classmethod
    def open(cls, path: Path | str, *, with_test: bool = False) -> "Store":
        """Open a store in a folder, or under a URL (`s3://`, `gs://`, `abfs://`).

        Args:
            with_test: whether the test split may be read.

        Raises:
            UserError: no store there, one of another schema version, a damaged manifest, or splits that share
                a group.
        """
        root = parse_location(path)
        return cls(root, read_manifest(root), with_test=with_test)

    @property
    def location(self) -> str:
        """Its absolute path, or its URL."""
        return str(self.root.absolute()) if isinstance(self.root, Path) else self.root

    @property
    def folders(self) -> list[Path]:
        """Its folder, where it has one: no output may lie in it."""
        return [self.root] if isinstance(self.root, Path) else []

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
            CaseError: its file is gone, damaged or another case's; names the case and the node.
            UserError: an unknown id, one of the test split where it may not be read, or a file that cannot be
                read now.
        """
        if case_id not in self.manifest.cases:
            raise unknown_name(self.root, "case", case_id, self.manifest.cases)
        if case_id in self._held_out:
            raise self._held_out_error(case_id)
        entry = self.manifest.cases[case_id]
        stored = self._reader.read(case_id, entry.file, entry.digest)
        if stored.id != case_id:
            raise CaseError(
                case_place(self.root, case_id),
                expected=f"this case in {entry.file}",
                found=f"the case {stored.id}",
                remedy="prepare the store again",
            )
        return replace(stored, task=self.task)

    def to_frame(self) -> "pd.DataFrame":
        """The cases as pandas' table: split, group, shape, spacing in mm, and the voxels of each label."""
        return cases_frame(self.manifest)

    def __repr__(self) -> str:
        return one_line("Store", f"{describe(self.manifest)}, {self.location}")

    def _repr_html_(self) -> str:
        return store_html(self)

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


def case_reader(root: Path | str, manifest: Manifest, config: DataConfig) -> CaseReader:
    """The reader of a store that this node can reach by its path or its URL."""
    if isinstance(root, Path):
        return MappedCases.of(root, manifest, config)
    source = ObjectStorage(root)
    return CachedCases.of(source, fingerprint=manifest.fingerprint, where=root, config=config)


def read_manifest(root: Path | str) -> Manifest:
    """Read and check `manifest.json`.

    Raises:
        UserError: as `Store.open`.
    """
    return check_manifest(parse_manifest(root), root)


def check_manifest(manifest: Manifest, root: Path | str) -> Manifest:
    """The manifest, after a check that no group is in two splits.

    Raises:
        UserError: one is.
    """
    groups = {case: entry.group for case, entry in manifest.cases.items()}
    folds = {f"fold {number}": fold for number, fold in enumerate(manifest.folds)}
    where = _where(root)
    check_splits(manifest.splits, groups, where=where)
    check_splits({**folds, "test": manifest.splits["test"]} if folds else {}, groups, where=where)
    return manifest


def parse_manifest(root: Path | str) -> Manifest:
    """Read `manifest.json` as it is, even where a group is in two splits.

    Raises:
        UserError: no store there, one of another schema version, or a damaged manifest.
    """
    values = _read_values(root)
    check_version(root, values["schema_version"])
    return from_dict(Manifest, values, str(_where(root)))


def check_version(root: Path | str, version: int) -> None:
    """Reject a store of another schema version.

    Raises:
        UserError: says how to get one of this version.
    """
    if version != schemas.STORE:
        older = f"make it anew with ossnet prepare --output {shlex.quote(str(root))}"
        raise UserError(
            _where(root),
            expected=f"store schema version {schemas.STORE}",
            found=f"version {version}",
            remedy="update ossnet" if version > schemas.STORE else older,
        )


def read_version(root: Path | str) -> int:
    """The schema version of a store.

    Raises:
        UserError: no store there, or a damaged manifest.
    """
    return int(_read_values(root)["schema_version"])


def _read_values(root: Path | str) -> dict[str, Any]:
    """The manifest as plain values, of whatever version.

    Raises:
        UserError: no store there, or a damaged manifest.
    """
    text = _read_local(root) if isinstance(root, Path) else _read_remote(root)
    try:
        values: dict[str, Any] = json.loads(text)
        return values | {"schema_version": int(values["schema_version"])}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            _where(root),
            expected="a store's manifest",
            found="something else",
            remedy="remove it and prepare again",
        ) from error


def _read_local(root: Path) -> bytes:
    path = root / MANIFEST
    if not root.is_dir():
        raise UserError(
            root,
            expected="a store",
            found="no such folder",
            remedy=f"make it with ossnet prepare --output {shlex.quote(str(root))}",
        )
    if not path.is_file():
        scans = any(root.glob("*.nii*")) or (root / "dataset.json").is_file() or any(root.glob("*/*.nii*"))
        raise UserError(
            root,
            expected="a store",
            found="scans" if scans else f"no {MANIFEST}",
            remedy=f"make a store of them with ossnet prepare --source {shlex.quote(str(root))}"
            if scans
            else "run ossnet prepare to its end",
        )
    try:
        return path.read_bytes()
    except OSError:
        return b""  # as one that is damaged


def _read_remote(root: str) -> bytes:
    try:
        return ObjectStorage(root).read_bytes(MANIFEST)
    except FileNotFoundError as error:
        remedy = "copy a store there, with its manifest last"
        raise UserError(root, expected="a store", found=f"no {MANIFEST}", remedy=remedy) from error
    except OSError as error:
        found, remedy = str(error).splitlines()[0], "check the URL, the credentials and the network"
        raise UserError(root, expected="a store", found=found, remedy=remedy) from error


def _where(root: Path | str) -> Path | str:
    return root / MANIFEST if isinstance(root, Path) else f"{root}/{MANIFEST}"


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Write the manifest atomically: with this the store exists."""
    atomic_write(root / MANIFEST, json.dumps(to_dict(manifest), indent=1))
