"""The plan of a store: options, source, task and a survey of every case.

A case's file carries in its name the digest of all that shapes it, so a file that is there is done, and a
changed input or option makes another file.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from ossnet import schemas
from ossnet.data.imaging.geometry import NO_PLACEMENT
from ossnet.data.labels.presets import map_labels
from ossnet.data.labels.task import Task
from ossnet.data.layouts import Source, read_source
from ossnet.data.prepare.config import PrepareConfig, check_fractions, make_task
from ossnet.data.prepare.survey import CaseInfo, digest_of, survey_cases
from ossnet.data.store.quantization import Storage
from ossnet.data.store.splits import Split, make_folds, read_splits
from ossnet.data.store.store import (
    CASES,
    MANIFEST,
    Manifest,
    check_version,
    read_manifest,
    read_version,
)
from ossnet.errors import UserError
from ossnet.output.file_names import file_name

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CaseRecipe:
    """All that shapes a case's file besides the case itself; what a worker is given."""

    task: Task
    """The task without regions, which only the manifest holds: others can be chosen in seconds."""
    labels: dict[str, int]
    """Name and voxel value of the source's labels."""
    storage: Storage


@dataclass(frozen=True)
class PreparePlan:
    """All that decides a store's content."""

    config: PrepareConfig
    output: Path
    source: Source
    task: Task
    surveys: dict[str, CaseInfo]
    excluded: dict[str, str] = field(default_factory=dict)
    """Cases and files known to be unusable so far, with the reason."""
    splits: dict[str, Split] | None = None
    """The split of each case, where the user has decided."""

    @property
    def recipe(self) -> CaseRecipe:
        """The steps that make each case."""
        return CaseRecipe(replace(self.task, regions={}), self.source.labels, self.config.storage)

    @property
    def cases(self) -> list[CaseInfo]:
        """The cases that are not excluded."""
        return [info for info in self.surveys.values() if info.id not in self.excluded]

    @property
    def missing(self) -> list[CaseInfo]:
        """The cases whose file is not there yet."""
        return [info for info in self.cases if not self.path(info).is_file()]

    def path(self, info: CaseInfo) -> Path:
        """The path of a case's file."""
        return self.output / CASES / f"{file_name(info.id)}.{self._digest(info)[:16]}.arrow"

    @property
    def fingerprint(self) -> str:
        """Digest of everything that shapes the store, excluded cases included."""
        config = self.config
        return digest_of(
            [self._digest(info) for info in self.surveys.values()],
            {name: str(error) for name, error in self.source.unmatched.items()},
            [config.validation_fraction, config.test_fraction, config.seed, config.folds, self.splits],
            list(self.task.regions.items()),
        )

    def _digest(self, info: CaseInfo) -> str:
        """Digest of all that shapes a case's file."""
        recipe = self.recipe
        return digest_of(
            schemas.STORE,
            info.id,
            info.case.group,
            recipe.task.to_dict(),
            recipe.storage,
            recipe.labels,
            info.digest,
        )


def make_plan(config: PrepareConfig) -> PreparePlan:
    """Read the source's layout and every case's headers, and hash the files.

    Raises:
        UserError: a source or an output that cannot be used, no usable case, or (strict) any that is not.
    """
    root = _given(config.source, "--source", "the folder of scans")
    output = _given(config.output, "--output", "the folder of the store")
    check_output(output)
    check_fractions(config)
    source = read_source(root, config.layout, allow_outside=config.allow_outside)
    for warning in source.warnings:
        logger.warning("warning: %s", warning)
    mapping = map_labels(config.labels, source.labels)
    source = replace(source, labels=mapping.labels)
    task = make_task(config, source, merged=mapping.merged)
    groups = {case.id: case.group for case in source.cases}
    splits = None if config.splits is None else read_splits(config.splits, groups)
    if config.folds is not None:
        make_folds(groups, folds=config.folds, seed=config.seed)  # rejects too many before any work
    surveys = survey_cases(source, task)
    excluded = {name: str(error) for name, error in source.unmatched.items()}
    excluded |= {name: info.error for name, info in surveys.items() if info.error is not None}
    _warn_of_no_placement(surveys.values())
    plan = PreparePlan(config, output, source, task, surveys, excluded, splits)
    check_excluded(plan, plan.excluded)
    return plan


def _warn_of_no_placement(infos: Iterable[CaseInfo]) -> None:
    """Say once of all cases whose headers do not tell left from right."""
    files = [info.images[0].path for info in infos if info.images and not info.images[0].geometry.placed]
    if files:
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        logger.warning(f"warning: {files[0]}{more}: {NO_PLACEMENT}")


def check_excluded(plan: PreparePlan, excluded: dict[str, str]) -> None:
    """Decide whether a store can be made without the excluded cases.

    Raises:
        UserError: no case would be left, or the plan is strict.
    """
    if not excluded:
        return
    first, more = next(iter(excluded.values())), len(excluded) - 1
    reason = f"{first} (and {more} more)" if more else first
    if plan.config.strict or (len(plan.surveys) == 1 and set(plan.surveys) <= excluded.keys()):
        raise UserError(plan.source.root, expected="no faulty case", found=reason)
    if plan.surveys.keys() <= excluded.keys():
        raise UserError(
            plan.source.root,
            expected="a usable case",
            found=f"none: {reason}",
            remedy="run ossnet verify, which lists every fault",
        )


def check_output(output: Path) -> None:
    """Reject an output that holds something else than a store.

    Raises:
        UserError: a file, a folder of other things, or a store that a newer version made.
    """
    if not output.exists():
        return
    if not output.is_dir():
        raise UserError(
            output, expected="a folder for the store", found="a file", remedy="name another --output"
        )
    found = {entry.name for entry in output.iterdir() if not entry.name.startswith(".")}
    if not found <= {MANIFEST, CASES}:
        raise UserError(
            output,
            expected="a new folder or a store",
            found=f"{min(found - {MANIFEST, CASES})} in it",
            remedy="name another --output",
        )
    if MANIFEST in found and read_version(output) > schemas.STORE:
        check_version(output, read_version(output))


def load_if_current(plan: PreparePlan) -> Manifest | None:
    """The store's manifest if it is what the plan would make; None otherwise."""
    if not (plan.output / MANIFEST).is_file() or read_version(plan.output) != schemas.STORE:
        return None
    manifest = read_manifest(plan.output)
    complete = all((plan.output / entry.file).is_file() for entry in manifest.cases.values())
    return manifest if complete and manifest.fingerprint == plan.fingerprint else None


def _given(path: Path | None, option: str, expected: str) -> Path:
    if path is None:
        raise UserError(option, expected=expected, found="none", remedy="name it")
    return path
