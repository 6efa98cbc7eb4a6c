"""Preparing a store: one case made, and the manifest that completes it.

Nothing here decides where cases are made: a plain loop does as well as a cluster. The manifest comes last;
until then a store that was there before stays whole.

Legend: X Y Z voxel axes in nibabel order.
"""

import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt8

from ossnet import schemas
from ossnet.config_tree import to_dict
from ossnet.data.imaging.geometry import Geometry
from ossnet.data.imaging.nifti import NiftiFile
from ossnet.data.imaging.normalization import Intensity, intensity, normalize
from ossnet.data.imaging.preprocessing import load_channels, on_working_grid, read_label
from ossnet.data.labels.task import MAX_LABELS, Task
from ossnet.data.prepare.plan import CaseRecipe, PreparePlan, check_excluded
from ossnet.data.prepare.survey import CaseInfo, missing_label
from ossnet.data.store.case_file import CaseHeader, StoredCase, is_case_file, read_case_header, read_digest
from ossnet.data.store.quantization import MAX_ERROR, Quantization, Storage, encode
from ossnet.data.store.splits import by_split, find_strata, make_folds, make_splits
from ossnet.data.store.statistics import CaseStatistics, count_labels, summarize
from ossnet.data.store.store import CASES, MANIFEST, CaseEntry, Manifest, write_manifest
from ossnet.errors import UserError
from ossnet.output.atomic_write import writing

_HEX = "[0-9a-f]"
_CASE = re.compile(rf".+\.{_HEX}{{16}}\.arrow", re.DOTALL)
_HALF_CASE = re.compile(rf"\.{_HEX}{{12}}-.+\.{_HEX}{{16}}\.arrow", re.DOTALL)
_HALF_MANIFEST = re.compile(rf"\.{_HEX}{{12}}-{re.escape(MANIFEST)}")
_LEFT_FOLDER = re.compile(rf"\.{CASES}-{_HEX}{{32}}")


@dataclass(frozen=True)
class PrepareReport:
    """The result of `prepare`."""

    output: Path
    splits: dict[str, int]
    """Cases in each split."""
    excluded: dict[str, str]
    prepared: int
    """Cases made in this run; the others were there already."""
    seconds: float
    voxel_megabytes: float
    """Uncompressed voxels read in this run."""

    @property
    def cases(self) -> int:
        """Cases in the store."""
        return sum(self.splits.values())

    @property
    def megabytes_per_s(self) -> float:
        """Uncompressed voxels read a second, start of the cluster included."""
        return self.voxel_megabytes / self.seconds

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**to_dict(self), "cases": self.cases, "megabytes_per_s": self.megabytes_per_s}


def make_case(info: CaseInfo, recipe: CaseRecipe) -> StoredCase:
    """Read, check and bring one case to its working state; its headers are those of the survey.

    Raises:
        UserError: the case cannot be used; names the file and the remedy.
    """
    if info.label is None:
        raise missing_label(info.case)
    task = recipe.task
    files = on_working_grid(info.images, task)
    label = _read_label(info.label, task, recipe.labels, like=files[0].geometry)
    image = _store_image(files, label, task, recipe.storage)
    if recipe.storage == "float16" and max(image.errors) > MAX_ERROR:
        del image  # its memory is needed
        image = _store_image(files, label, task, "int16")
    if max(image.errors) > MAX_ERROR:
        channel = int(np.argmax(image.errors))
        raise UserError(
            info.images[0].path,
            expected=f"{task.modalities[channel]} to be stored within {MAX_ERROR:g} deviations",
            found=f"{max(image.errors):.3g}, as some voxels are far from all others",
            remedy="cut them off",
        )
    geometry = files[0].geometry
    statistics = CaseStatistics(
        shape=geometry.working_shape,
        spacing=geometry.spacing,
        class_counts=count_labels(label, len(task.labels)),
        intensities=tuple(image.intensities),
        foreground_intensities=tuple(image.foreground_intensities),
        storage="int16" if image.scales else "float16",
        errors=tuple(image.errors),
    )
    header = CaseHeader(info.id, info.case.group, geometry, statistics, tuple(image.scales))
    return StoredCase(header, image.voxels, label)


def _read_label(
    file: NiftiFile, task: Task, labels: Mapping[str, int], *, like: Geometry
) -> UInt8[np.ndarray, "X Y Z"]:
    """Label indices; labels that are to be merged are resampled before, where a byte can tell them apart."""
    if task.target != "foreground":
        return read_label(file, task, like=like)
    if len(labels) > MAX_LABELS:
        return read_label(file, task.reading_as_one(labels), like=like)
    label = read_label(file, replace(task, labels=dict(labels), target="labels"), like=like)
    return (label > 0).astype(np.uint8)


@contextmanager
def open_store_for_writing(plan: PreparePlan) -> Iterator[None]:
    """Open the store's folders; after a user's mistake, take away again what was added."""
    root, folder = plan.output, plan.output / CASES
    new, before = not root.exists(), set(folder.iterdir()) if folder.is_dir() else None
    with writing(folder, "folder"):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except UserError:
        if before is None:
            # Renamed first, so that a case that is being written now fails instead of coming back.
            folder = folder.rename(root / f".{CASES}-{uuid.uuid4().hex}")
        _remove_cases(set(folder.iterdir()) - (before or set()))
        with suppress(OSError):  # not empty: it holds what is not ours
            if before is None:
                folder.rmdir()
            if new:
                root.rmdir()
        raise


def finalize(plan: PreparePlan, excluded: dict[str, str]) -> Manifest:
    """Write the manifest over the cases made, and remove files that belong to none.

    Raises:
        UserError: as `check_excluded`.
    """
    check_excluded(plan, excluded)
    root = plan.output
    paths = {info.id: plan.path(info) for info in plan.surveys.values() if info.id not in excluded}
    headers = {name: read_case_header(path) for name, path in paths.items()}
    cases = {
        name: CaseEntry(
            paths[name].relative_to(root).as_posix(),
            header.group,
            header.statistics,
            read_digest(paths[name]),
        )
        for name, header in headers.items()
    }
    splits, folds = _split_cases(plan, cases)
    hidden = {"output", "strict"}
    manifest = Manifest(
        schema_version=schemas.STORE,
        fingerprint=plan.fingerprint,
        configuration={name: value for name, value in to_dict(plan.config).items() if name not in hidden},
        task=plan.task,
        statistics=summarize([entry.statistics for entry in cases.values()], plan.task),
        splits=splits,
        folds=folds,
        cases=cases,
        excluded=dict(sorted(excluded.items())),
    )
    write_manifest(root, manifest)
    remove_stale(root, manifest)
    return manifest


def remove_stale(root: Path, manifest: Manifest) -> None:
    """Remove from a finished store our own files of no case: of older inputs, or half-written when killed."""
    wanted = {root / entry.file for entry in manifest.cases.values()}
    _remove_cases(set((root / CASES).iterdir()) - wanted)
    for path in root.iterdir():
        if _HALF_MANIFEST.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)
        elif _LEFT_FOLDER.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            _remove_cases(path.iterdir())
            with suppress(OSError):
                path.rmdir()


def _remove_cases(paths: Iterable[Path]) -> None:
    """Remove of these files those that are a store's cases, or halves of them."""
    for path in paths:
        half = _HALF_CASE.fullmatch(path.name) and path.is_file() and not path.is_symlink()
        if half or (_CASE.fullmatch(path.name) and is_case_file(path)):
            path.unlink(missing_ok=True)


@dataclass
class _Image:
    """An image on its way into the store."""

    voxels: Shaped[np.ndarray, "C X Y Z"]
    intensities: list[Intensity] = field(default_factory=list)
    foreground_intensities: list[Intensity] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    scales: list[Quantization] = field(default_factory=list)


def _store_image(
    files: Sequence[NiftiFile], label: UInt8[np.ndarray, "X Y Z"], task: Task, storage: Storage
) -> _Image:
    """Store the channels one after the other, so that only one is held in single precision."""
    image = _Image(np.empty((len(task.modalities), *label.shape), storage))
    channels = load_channels(files, task)
    for target, kind in zip(image.voxels, task.normalizations, strict=True):
        channel = next(channels)
        image.intensities.append(intensity(channel))
        image.foreground_intensities.append(intensity(channel, label))
        normalize(channel, kind)
        scale, error = encode(channel, target)
        if kind == "none":  # what is not normalized is measured by its own deviation
            error /= max(image.intensities[-1].std, float(np.finfo(np.float32).tiny))
        image.errors.append(error)
        if scale is not None:
            image.scales.append(scale)
        del channel  # before the next one is read
    return image


def _split_cases(
    plan: PreparePlan, cases: Mapping[str, CaseEntry]
) -> tuple[dict[str, tuple[str, ...]], tuple[tuple[str, ...], ...]]:
    """The splits of the cases that are there, and the folds where there are some."""
    config = plan.config
    if plan.splits is not None:
        there = {case: split for case, split in plan.splits.items() if case in cases}
        return by_split(there), ()
    groups = {name: entry.group for name, entry in cases.items()}
    volumes = {
        name: [count * prod(entry.statistics.spacing) for count in entry.statistics.class_counts[1:]]
        for name, entry in cases.items()
    }
    strata = find_strata(groups, volumes)
    splits = make_splits(
        groups,
        validation_fraction=config.validation_fraction,
        test_fraction=config.test_fraction,
        seed=config.seed,
        strata=strata,
    )
    if config.folds is None:
        return splits, ()
    left = {case: group for case, group in groups.items() if case not in set(splits["test"])}
    folds = make_folds(left, folds=config.folds, seed=config.seed, strata=strata)
    training = tuple(sorted(case for fold in folds[1:] for case in fold))
    return {"training": training, "validation": folds[0], "test": splits["test"]}, folds
