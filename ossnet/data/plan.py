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

from ossnet.data.checks import check_same_grid
from ossnet.data.geometry import Spacing
from ossnet.data.layouts import Case, Layout, Source, read_source
from ossnet.data.nifti import NiftiFile, read_header
from ossnet.data.normalisation import default_normalisation
from ossnet.data.preprocessing import read_headers
from ossnet.data.splits import make_splits
from ossnet.data.store import CASES, MANIFEST, SCHEMA_VERSION, Manifest, read_manifest, read_version
from ossnet.data.targets import Preset, choose_regions, label_table
from ossnet.data.task import Normalisation, Task
from ossnet.errors import UserError

PROCESS_MEMORY = 300 << 20
"""Bytes a process takes before it reads a voxel: the libraries that it imports."""


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
    normalisation: Literal["auto"] | Normalisation = "auto"
    """`auto` is ct for CT, else zscore-foreground; zscore is the paper's."""
    labels: tuple[str, ...] = ()
    """Labels to rename, merge or read other values as, each `NAME=VALUE[,VALUE...]` (`label_table`)."""
    target: Preset = "labels"
    """What to learn: the labels, all of them as one class, or the regions of a preset."""
    regions: tuple[str, ...] = ()
    """What to learn instead: regions that may overlap, each `NAME=LABEL[,LABEL...]` (`choose_regions`)."""
    validation_share: float = 0.2
    test_share: float = 0.0
    seed: int = 0
    """Of the splits."""
    strict: bool = False
    """Fail at the first case that cannot be used, instead of setting it aside."""


@dataclass(frozen=True)
class Survey:
    """What can be told of a case without decompressing it."""

    digest: str
    """Of the files' bytes."""
    voxel_bytes: int = 0
    """Uncompressed voxels of all its files."""
    memory: int = 0
    """Bytes of RAM that preparing it takes at most."""
    problem: str | None = None


@dataclass(frozen=True)
class Plan:
    """All that decides a store's content."""

    config: PrepareConfig
    source: Source
    task: Task
    surveys: dict[str, Survey]
    set_aside: dict[str, str] = field(default_factory=dict)
    """Found unusable so far."""

    @property
    def cases(self) -> list[Case]:
        """Those not set aside."""
        return [case for case in self.source.cases if case.id not in self.set_aside]

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
            self.source.left_out,
            [config.validation_share, config.test_share, config.seed],
            list(self.task.regions.items()),
        )

    def _digest(self, case: Case) -> str:
        return _digest_of(
            SCHEMA_VERSION,
            case.id,
            case.group,
            replace(
                self.task, regions={}
            ).to_dict(),  # they shape no case, so others can be chosen in seconds
            self.source.labels,
            self.surveys[case.id].digest,
        )


def make_plan(config: PrepareConfig) -> Plan:
    """Read the source's layout and every case's headers, and hash the files.

    Raises:
        UserError: a source or an output that cannot be used, no usable case, or (strict) any that is not.
    """
    check_output(config.output)
    make_splits({}, validation_share=config.validation_share, test_share=config.test_share, seed=config.seed)
    source = read_source(config.source, config.layout)
    table = label_table(config.labels, source.labels)
    source = replace(source, labels=table.labels)
    task = make_task(config, source, merged=table.merged)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        surveys = dict(
            zip((case.id for case in source.cases), pool.map(_surveyor(task), source.cases), strict=True)
        )
    problems = {name: survey.problem for name, survey in surveys.items() if survey.problem is not None}
    plan = Plan(config, source, task, surveys, source.left_out | problems)
    check_problems(plan, plan.set_aside)
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
        UserError: a spacing that is not positive, or regions that the labels do not give.
    """
    if config.spacing is not None and min(config.spacing) <= 0:
        msg = f"spacing {config.spacing}: expected three sizes in mm above 0"
        raise UserError(msg)
    normalisation = config.normalisation
    return Task(
        modalities=source.modalities,
        labels={"foreground": 1} if config.target == "foreground" else source.labels,
        normalisation=default_normalisation(source.modalities) if normalisation == "auto" else normalisation,
        spacing=config.spacing,
        target="foreground" if config.target == "foreground" else "labels",
        merged=merged,
        regions=choose_regions(config.target, config.regions, source.labels),
    )


def check_problems(plan: Plan, set_aside: dict[str, str]) -> None:
    """Decide whether a store can be made without these cases.

    Raises:
        UserError: none would be left, or the plan is strict.
    """
    if not set_aside:
        return
    first, more = next(iter(set_aside.values())), len(set_aside) - 1
    others = f" (and {more} more)" if more else ""
    reason = f"{first}{others}"
    if plan.config.strict:
        raise UserError(reason)
    if all(case.id in set_aside for case in plan.source.cases):
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


def finished(plan: Plan) -> Manifest | None:
    """The store's manifest if it is what the plan would make."""
    if not (plan.config.output / MANIFEST).is_file():
        return None
    if read_version(plan.config.output) != SCHEMA_VERSION:
        return None
    manifest = read_manifest(plan.config.output)
    whole = all((plan.config.output / entry.file).is_file() for entry in manifest.cases.values())
    return manifest if whole and manifest.fingerprint == plan.fingerprint else None


def _surveyor(task: Task) -> Callable[[Case], Survey]:
    def survey(case: Case) -> Survey:
        files = [*case.images, *([case.label] if case.label else [])]
        digest = _digest_of([_digest_file(path) for path in files])
        try:
            if case.label is None:
                raise UserError(no_label(case))
            images = read_headers(case.images, len(task.modalities))
            label = read_header(case.label)
            check_same_grid(label.geometry, images[0].geometry, path=label.path, other="its image")
        except UserError as error:
            return Survey(digest, problem=str(error))
        voxel_bytes = sum(_voxel_bytes(file) for file in [*images, label])
        return Survey(digest, voxel_bytes, _memory(images, label, task))

    return survey


def _memory(images: list[NiftiFile], label: NiftiFile, task: Task) -> int:
    """Bytes at the worst moment of `make_case`."""
    geometry = images[0].geometry
    voxels, working = prod(geometry.shape), prod(geometry.at_spacing(task.spacing).working_shape)
    channels = len(task.modalities)
    reading_label = _voxel_bytes(label) + 6 * voxels
    # Reading: a file as stored, a float32 channel beside the last one, the same resampled, image and label.
    # Writing: the image, its half precision and the label.
    apart = 4 * voxels * min(2, channels) + 4 * working * (task.spacing is not None)
    reading_image = max(map(_voxel_bytes, images)) + apart + 4 * channels * working + working
    writing = 6 * channels * working + working
    return PROCESS_MEMORY + max(reading_label, reading_image, writing) * 11 // 10


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
