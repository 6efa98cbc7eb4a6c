"""Preparing a store: one case made, and the manifest that completes it.

Nothing here decides where cases are made: a plain loop does as well as a cluster. The manifest comes last;
until then a store that was there before stays whole.

Legend: X Y Z voxel axes in nibabel order.
"""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ossnet.data.casefile import StoredCase, read_facts
from ossnet.data.layouts import Case
from ossnet.data.normalisation import intensity, normalise
from ossnet.data.plan import Plan, check_problems, no_label
from ossnet.data.preprocessing import load_image, preprocess_label, read_headers
from ossnet.data.splits import make_splits
from ossnet.data.statistics import summarise
from ossnet.data.store import CASES, SCHEMA_VERSION, CaseEntry, Manifest, write_manifest
from ossnet.errors import UserError
from ossnet.tree import to_dict


@dataclass(frozen=True)
class PrepareReport:
    """What `prepare` did."""

    output: Path
    splits: dict[str, int]
    """Cases in each split."""
    set_aside: dict[str, str]
    prepared: int
    """Cases made in this run; the others were there."""
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


def make_case(case: Case, plan: Plan) -> StoredCase:
    """Read, check and bring one case to its working state; of the plan, only task and labels matter.

    Raises:
        UserError: the case cannot be used; names the file and the remedy.
    """
    if case.label is None:
        raise UserError(no_label(case))
    task = plan.task
    files = read_headers(case.images, len(task.modalities))
    as_stored = replace(task, labels=plan.source.labels, target="labels")
    label = preprocess_label(case.label, as_stored, like=files[0].geometry)
    if task.target == "foreground":
        label = (label > 0).astype(np.uint8)
    scan = load_image(files, task)
    intensities = []
    for channel in scan.image:
        intensities.append(intensity(channel))
        normalise(channel, task.normalisation)
    return StoredCase(
        id=case.id,
        group=case.group,
        image=scan.image.astype(np.float16),
        label=label,
        geometry=scan.geometry,
        intensities=tuple(intensities),
        class_counts=_count(label, len(task.labels)),
    )


@contextmanager
def building(plan: Plan) -> Iterator[None]:
    """Open the store's folders; after a user's mistake, take away again what was added."""
    root, folder = plan.config.output, plan.config.output / CASES
    new, before = not root.exists(), set(folder.iterdir()) if folder.is_dir() else set()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"{root}: cannot be made ({error.strerror}); name another --output"
        raise UserError(msg) from error
    try:
        yield
    except UserError:
        if not before:
            # Renamed first, so that a case that is being written now fails instead of coming back.
            shutil.rmtree(folder.rename(root / f".{CASES}-{uuid.uuid4().hex}"), ignore_errors=True)
        for path in set(folder.iterdir()) - before if before else ():
            path.unlink(missing_ok=True)
        if new:
            with suppress(OSError):
                root.rmdir()
        raise


def complete(plan: Plan, set_aside: dict[str, str]) -> Manifest:
    """Write the manifest over the cases made, and remove files that belong to none.

    Raises:
        UserError: as `check_problems`.
    """
    check_problems(plan, set_aside)
    root = plan.config.output
    paths = {case.id: plan.path(case) for case in plan.source.cases if case.id not in set_aside}
    cases = {
        name: CaseEntry.of(read_facts(path), path.relative_to(root).as_posix())
        for name, path in paths.items()
    }
    splits = make_splits(
        {name: entry.group for name, entry in cases.items()},
        validation_share=plan.config.validation_share,
        test_share=plan.config.test_share,
        seed=plan.config.seed,
    )
    hidden = {"output", "strict"}
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        fingerprint=plan.fingerprint,
        configuration={name: value for name, value in to_dict(plan.config).items() if name not in hidden},
        task=plan.task,
        statistics=summarise(list(cases.values()), plan.task),
        splits={name: tuple(members) for name, members in splits.items()},
        cases=cases,
        set_aside=dict(sorted(set_aside.items())),
    )
    write_manifest(root, manifest)
    for stray in set((root / CASES).iterdir()) - set(paths.values()):
        stray.unlink(missing_ok=True)
    return manifest


def _count(label: UInt8[np.ndarray, "X Y Z"], labels: int) -> tuple[int, ...]:
    """Voxels of each label index; slab by slab, as counting takes 8 bytes a voxel."""
    counts = sum(np.bincount(slab.ravel(), minlength=labels + 1) for slab in label)
    return tuple(np.asarray(counts).tolist())
