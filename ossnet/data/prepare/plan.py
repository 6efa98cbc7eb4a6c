"""What a store will be made from: options, source, and a look at every case that decompresses nothing.

A case's file carries in its name the digest of all that shapes it, so a file that is there is done, and a
changed input or option makes another file.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Literal

from ossnet.data.imaging.checks import check_same_grid
from ossnet.data.imaging.geometry import Spacing
from ossnet.data.imaging.nifti import SLAB, NiftiFile, read_header
from ossnet.data.imaging.normalization import default_normalization
from ossnet.data.imaging.preprocessing import read_headers, working_coarse_axis
from ossnet.data.imaging.resampling import interpolation_memory
from ossnet.data.labels.presets import Preset, choose_regions, label_table
from ossnet.data.labels.task import Interpolation, Normalization, Task
from ossnet.data.layouts import Case, Layout, Source, read_source
from ossnet.data.store.quantization import Storage
from ossnet.data.store.splits import Split, make_folds, make_splits, read_splits
from ossnet.data.store.store import CASES, MANIFEST, SCHEMA_VERSION, Manifest, read_manifest, read_version
from ossnet.errors import UserError

Choice = Literal["auto"] | Normalization

PROCESS_MEMORY = 300 << 20
"""Bytes a process takes before it reads a voxel: the libraries that it imports."""
_COUNTS = 4 << 20


@dataclass(frozen=True)
class PrepareConfig:
    """From a folder of scans to a store."""

    source: Path
    """Folder of scans."""
    output: Path
    """Folder of the store; made, completed or, where its inputs changed, renewed."""
    layout: Layout = "auto"
    """How the folder is laid out."""
    spacing: Spacing | None = None
    """Voxel size in mm along R, A and S to resample to; by default each scan keeps its own."""
    interpolation: Interpolation = "cubic"
    """Of images where they are resampled; labels are interpolated class by class."""
    crop: float | None = None
    """Margin in mm around the box of a scan's foreground, beyond which it is cut off; by default none is."""
    normalization: Choice | tuple[Choice, ...] = "auto"
    """`auto` is ct for CT, else zscore-foreground; zscore is the paper's. One for all, or one a modality."""
    storage: Storage = "float16"
    """Of images: int16 where half floats would be too coarse, and for all if asked for."""
    labels: tuple[str, ...] = ()
    """Labels to rename, merge or read other values as, each `NAME=VALUE[,VALUE...]` (`label_table`)."""
    target: Preset = "labels"
    """What to learn: the labels, all of them as one class, or the regions of a preset."""
    regions: tuple[str, ...] = ()
    """What to learn instead: regions that may overlap, each `NAME=LABEL[,LABEL...]` (`choose_regions`)."""
    validation_fraction: float = 0.2
    """Not used with folds, of which each validates in its turn."""
    test_fraction: float = 0.0
    seed: int = 0
    """Of the splits."""
    folds: int | None = None
    """Parts of the cases outside the test split; the first one validates unless training names another."""
    splits: Path | None = None
    """JSON or CSV that names each case's split, instead of shares."""
    strict: bool = False
    """Fail at the first case that cannot be used, instead of setting it aside."""


@dataclass(frozen=True)
class CaseInfo:
    """What can be told of a case without decompressing it."""

    digest: str
    """Of the files' bytes."""
    voxel_bytes: int = 0
    """Uncompressed voxels of all its files."""
    memory: int = 0
    """Bytes of RAM that preparing it takes at most."""
    problem: str | None = None


@dataclass(frozen=True)
class PreparePlan:
    """All that decides a store's content."""

    config: PrepareConfig
    source: Source
    task: Task
    surveys: dict[str, CaseInfo]
    excluded: dict[str, str] = field(default_factory=dict)
    """Found unusable so far."""
    splits: dict[str, Split] | None = None
    """Of each case, where the user has decided."""

    @property
    def cases(self) -> list[Case]:
        """Those not set aside."""
        return [case for case in self.source.cases if case.id not in self.excluded]

    @property
    def missing(self) -> list[Case]:
        """Those whose file is not there yet."""
        return [case for case in self.cases if not self.path(case).is_file()]

    def path(self, case: Case) -> Path:
        """Where a case's file belongs."""
        return self.config.output / CASES / f"{case.id}.{self._digest(case)[:16]}.arrow"

    @property
    def fingerprint(self) -> str:
        """Digest of everything that shapes the store, cases that were set aside included."""
        config = self.config
        return _digest_of(
            [self._digest(case) for case in self.source.cases],
            self.source.unmatched,
            [config.validation_fraction, config.test_fraction, config.seed, config.folds, self.splits],
            list(self.task.regions.items()),
        )

    def _digest(self, case: Case) -> str:
        """Of all that shapes a case's file, which regions do not: others can be chosen in seconds."""
        return _digest_of(
            SCHEMA_VERSION,
            case.id,
            case.group,
            replace(self.task, regions={}).to_dict(),
            self.config.storage,
            self.source.labels,
            self.surveys[case.id].digest,
        )


def make_plan(config: PrepareConfig) -> PreparePlan:
    """Read the source's layout and every case's headers, and hash the files.

    Raises:
        UserError: a source or an output that cannot be used, no usable case, or (strict) any that is not.
    """
    check_output(config.output)
    check_fractions(config)
    source = read_source(config.source, config.layout)
    table = label_table(config.labels, source.labels)
    source = replace(source, labels=table.labels)
    task = make_task(config, source, merged=table.merged)
    groups = {case.id: case.group for case in source.cases}
    splits = None if config.splits is None else read_splits(config.splits, groups)
    if config.folds is not None:
        make_folds(groups, folds=config.folds, seed=config.seed)  # refuses too many before any work
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        surveys = dict(
            zip((case.id for case in source.cases), pool.map(_surveyor(task), source.cases), strict=True)
        )
    problems = {name: survey.problem for name, survey in surveys.items() if survey.problem is not None}
    plan = PreparePlan(config, source, task, surveys, source.unmatched | problems, splits)
    check_problems(plan, plan.excluded)
    return plan


def parse_spacing(values: Sequence[str]) -> Spacing | None:
    """`1,1,1` or `1 1 1` in mm; nothing at all is None.

    Raises:
        UserError: not three numbers.
    """
    if not values:
        return None
    parts = [part for value in values for part in value.split(",")]
    try:
        first, second, third = map(float, parts)
    except ValueError as error:
        msg = f"spacing {' '.join(values)!r}: expected three sizes in mm, as in 1,1,1"
        raise UserError(msg) from error
    return first, second, third


def make_task(config: PrepareConfig, source: Source, *, merged: dict[str, tuple[int, ...]]) -> Task:
    """The task that the options make of a source.

    Args:
        merged: further values of labels, from `label_table`.

    Raises:
        UserError: a spacing that is not positive, a negative margin, normalizations for other modalities,
            or regions that the labels do not give.
    """
    if config.spacing is not None and min(config.spacing) <= 0:
        msg = f"spacing {config.spacing}: expected three sizes in mm above 0"
        raise UserError(msg)
    if config.crop is not None and config.crop < 0:
        msg = f"crop {config.crop}: expected a margin in mm from 0"
        raise UserError(msg)
    return Task(
        modalities=source.modalities,
        labels={"foreground": 1} if config.target == "foreground" else source.labels,
        normalization=_normalization(config.normalization, source.modalities),
        spacing=config.spacing,
        interpolation=config.interpolation if config.spacing is not None else Task.interpolation,
        crop=config.crop,
        target="foreground" if config.target == "foreground" else "labels",
        merged=merged,
        regions=choose_regions(config.target, config.regions, source.labels),
    )


def check_fractions(config: PrepareConfig) -> None:
    """Refuse splits that cannot be.

    Raises:
        UserError: impossible shares, fewer than two folds, or folds beside given splits.
    """
    make_splits(
        {},
        validation_fraction=config.validation_fraction,
        test_fraction=config.test_fraction,
        seed=config.seed,
    )
    if config.folds is not None and config.folds < 2:
        msg = f"folds {config.folds}: expected 2 or more, or none"
        raise UserError(msg)
    if config.folds is not None and config.splits is not None:
        msg = f"{config.splits}: expected no folds beside given splits, found {config.folds}; leave one out"
        raise UserError(msg)


def check_problems(plan: PreparePlan, excluded: dict[str, str]) -> None:
    """Decide whether a store can be made without these cases.

    Raises:
        UserError: none would be left, or the plan is strict.
    """
    if not excluded:
        return
    first, more = next(iter(excluded.values())), len(excluded) - 1
    others = f" (and {more} more)" if more else ""
    reason = f"{first}{others}"
    if plan.config.strict:
        raise UserError(reason)
    if all(case.id in excluded for case in plan.source.cases):
        msg = reason if len(plan.source.cases) == 1 else f"{plan.source.root}: no usable case: {reason}"
        raise UserError(msg)


def check_output(output: Path) -> None:
    """Refuse to write over what is not a store.

    Raises:
        UserError: a file, a folder of other things, or a store that a newer version made.
    """
    if not output.exists():
        return
    if not output.is_dir():
        msg = f"{output}: expected a folder for the store, found a file; name another --output"
        raise UserError(msg)
    found = {entry.name for entry in output.iterdir() if not entry.name.startswith(".")}
    if not found <= {MANIFEST, CASES}:
        strange = min(found - {MANIFEST, CASES})
        msg = f"{output}: expected a new folder or a store, found {strange} in it; name another --output"
        raise UserError(msg)
    if MANIFEST in found and read_version(output) > SCHEMA_VERSION:
        read_manifest(output)  # refuses it


def finished(plan: PreparePlan) -> Manifest | None:
    """The store's manifest if it is what the plan would make."""
    if not (plan.config.output / MANIFEST).is_file():
        return None
    if read_version(plan.config.output) != SCHEMA_VERSION:
        return None
    manifest = read_manifest(plan.config.output)
    whole = all((plan.config.output / entry.file).is_file() for entry in manifest.cases.values())
    return manifest if whole and manifest.fingerprint == plan.fingerprint else None


def _surveyor(task: Task) -> Callable[[Case], CaseInfo]:
    def survey(case: Case) -> CaseInfo:
        files = [*case.images, *([case.label] if case.label else [])]
        digest = _digest_of([_digest_file(path) for path in files])
        try:
            if case.label is None:
                raise UserError(no_label(case))
            images = read_headers(case.images, len(task.modalities))
            label = read_header(case.label)
            check_same_grid(label.geometry, images[0].geometry, path=label.path, other="its image")
        except UserError as error:
            return CaseInfo(digest, problem=str(error))
        voxel_bytes = sum(_voxel_bytes(file) for file in [*images, label])
        return CaseInfo(digest, voxel_bytes, _memory(images, label, task))

    return survey


def _normalization(
    chosen: Choice | tuple[Choice, ...], modalities: tuple[str, ...]
) -> Normalization | tuple[Normalization, ...]:
    choices = chosen if isinstance(chosen, tuple) else (chosen,)
    if len(choices) not in (1, len(modalities)):
        names = ", ".join(modalities)
        msg = f"normalization {' '.join(choices)}: expected one, or one for each of {names}"
        raise UserError(msg)
    if len(choices) == 1:
        choices *= len(modalities)
    kinds = tuple(
        default_normalization(name) if choice == "auto" else choice
        for name, choice in zip(modalities, choices, strict=True)
    )
    return kinds[0] if len(set(kinds)) == 1 else kinds


def _memory(images: list[NiftiFile], label: NiftiFile, task: Task) -> int:
    """Bytes at the worst moment of `make_case`; nothing is known yet of what cropping will spare."""
    geometry = label.geometry.resampled_to(task.spacing)
    before, after = geometry.canonical_shape, geometry.working_shape
    voxels, working, slab = prod(before), prod(after), min(SLAB, prod(before))
    # A label's numbers and classes, with cropping also the part that is kept; slabs are rounded in float64.
    rounded = label.dtype.kind == "f" or label.scaled
    numbers = 4 if rounded else label.dtype.itemsize
    reading_label = (numbers + 1 + (task.crop is not None)) * voxels + working
    reading_label += slab * (label.dtype.itemsize + 40 * rounded)
    # All channels as stored, the label, one channel and what resampling makes of it, a slab and its scaling.
    image = 2 * len(task.modalities) * working + working + 4 * voxels
    image += interpolation_memory(before, after, coarse=working_coarse_axis(geometry, task))
    image += slab * (max(file.dtype.itemsize for file in images) + 8)
    # What statistics and interpolation take, some of it for each plane.
    beside = _COUNTS + 64 * max(working // min(after), voxels // min(before))
    return PROCESS_MEMORY + max(reading_label, image) + beside


def _voxel_bytes(file: NiftiFile) -> int:
    return prod(file.geometry.shape) * file.channels * file.dtype.itemsize


def no_label(case: Case) -> str:
    """What to tell of a case without label."""
    return f"{case.images[0]}: expected a label for the case {case.id}, found none; add it or remove the case"


def _digest_file(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return "unreadable"


def _digest_of(*values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
