"""Verifying a store: that its cases are what the manifest says, and that no patient is in two splits."""

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ossnet.data.imaging.nifti import not_finite
from ossnet.data.labels.task import Task
from ossnet.data.store.case_file import StoredCase, compute_digest, read_case
from ossnet.data.store.store import MANIFEST, CaseEntry, Manifest, parse_manifest
from ossnet.data.verification.duplicates import find_duplicates
from ossnet.data.verification.issues import CaseSummary, FileSummary, Issue, Verification, in_order
from ossnet.data.verification.voxels import ChannelStats
from ossnet.errors import UserError
from ossnet.output.progress import progress
from ossnet.output.remote.url import parse_location
from ossnet.output.views.slices import draw, planes_through

_PREPARE_AGAIN = "prepare the store again"
_VERIFY_SOURCE = "check the source with ossnet verify --source"


def verify_store(store: Path | str) -> Verification:
    """Read every case of a store and report all that is wrong with it.

    Raises:
        UserError: no store there, one of another schema version, or a damaged manifest.
    """
    start, root = time.monotonic(), parse_location(store)
    if isinstance(root, str):
        raise UserError(
            root, expected="a folder", found="a URL", remedy="verify the store before it is copied"
        )
    manifest = parse_manifest(root)
    views, findings = list[CaseSummary](), list(_shared_groups(root, manifest))
    with progress(
        "verifying", total=len(manifest.cases), size=sum(map(_bytes, _files(root, manifest)))
    ) as advance:
        for name, entry in sorted(manifest.cases.items()):
            view, faults = _check_case(root / entry.file, name, entry, manifest.task)
            views.append(view)
            findings += faults
            advance(_bytes(root / entry.file))
    bad = {finding.case for finding in findings if finding.severity == "error"}
    findings += find_duplicates([view for view in views if view.case not in bad])
    return Verification(
        root=root,
        layout="store",
        modalities=manifest.task.modalities,
        labels=manifest.task.labels,
        cases=tuple(views),
        findings=in_order(findings),
        remap=(),
        seconds=time.monotonic() - start,
    )


def _shared_groups(root: Path, manifest: Manifest) -> Iterator[Issue]:
    """An issue for each group that is in several splits."""
    homes: dict[str, dict[str, str]] = {}
    for split, cases in manifest.splits.items():
        for case in cases:
            homes.setdefault(manifest.cases[case].group, {}).setdefault(split, case)
    for group, splits in homes.items():
        if len(splits) > 1:
            found = " and ".join(f"{split} ({case})" for split, case in splits.items())
            yield Issue(
                "error",
                next(iter(splits.values())),
                str(root / MANIFEST),
                f"the group {group} in one split",
                f"it in {found}",
                _PREPARE_AGAIN,
            )


def _check_case(path: Path, name: str, entry: CaseEntry, task: Task) -> tuple[CaseSummary, list[Issue]]:
    try:
        case = read_case(path)
    except UserError as error:
        view = CaseSummary(name, entry.group, (FileSummary(path),), None, {})
        return view, [Issue.error(error, case=name)]
    channels = []
    for voxels in case.image:
        channel = ChannelStats(voxels.shape)
        for plane in voxels:
            channel.add(plane.astype(np.float32)[None])
        channels.append(channel)
    values = [0, *task.labels.values()]
    counts = _count(case)
    view = CaseSummary(
        case=name,
        group=entry.group,
        images=(_file_summary(path, case, channels),),
        label=FileSummary(path, shape=case.label.shape, dtype="uint8", digest=_digest(case.label)),
        voxels={
            str(values[index] if index < len(values) else f"index {index}"): count
            for index, count in enumerate(counts)
            if count
        },
        picture=_picture(case),
        modality=task.modalities[0],
    )
    faults = list(_faults(path, name, case, counts, channels, len(values)))
    if entry.digest is not None and compute_digest(path) != entry.digest:
        expected = f"the checksum {entry.digest[:12]}"
        faults.append(Issue("error", name, str(path), expected, "another one", _PREPARE_AGAIN))
    return view, faults


def _faults(
    path: Path, name: str, case: StoredCase, counts: list[int], channels: list[ChannelStats], known: int
) -> Iterator[Issue]:
    strange = sum(channel.not_finite for channel in channels)
    if strange:
        yield Issue.error(not_finite(strange, path), case=name)
    declared = list(case.statistics.class_counts)
    if len(counts) > known:
        expected, found = f"label indices up to {known - 1}", str(len(counts) - 1)
        yield Issue("error", name, str(path), expected, found, _PREPARE_AGAIN)
    elif (counts + [0] * known)[: len(declared)] != declared:
        expected = f"{declared} voxels of the labels as the file says of itself"
        yield Issue("error", name, str(path), expected, str(counts), _PREPARE_AGAIN)
    elif not sum(declared[1:]):
        yield Issue.warning(name, path, expected="labeled voxels", found="none", remedy=_VERIFY_SOURCE)
    for number, channel in enumerate(channels):
        if channel.constant:
            yield Issue.warning(
                name,
                path,
                expected=f"a picture in channel {number}",
                found=f"the value {channel.minimum:g} in every voxel",
                remedy=_VERIFY_SOURCE,
            )


def _count(case: StoredCase) -> list[int]:
    """Voxels of each label index up to the largest there is."""
    counts = sum(np.bincount(slab.ravel(), minlength=256) for slab in case.label)
    return np.trim_zeros(np.asarray(counts), "b").tolist()


def _file_summary(path: Path, case: StoredCase, channels: list[ChannelStats]) -> FileSummary:
    geometry = case.geometry
    minima = [channel.minimum for channel in channels if channel.minimum is not None]
    maxima = [channel.maximum for channel in channels if channel.maximum is not None]
    return FileSummary(
        path=path,
        shape=case.label.shape,
        spacing=tuple(float(f"{size:.6g}") for size in case.spacing),
        orientation="RAS",
        dtype=str(case.voxels.dtype),
        codes=(geometry.sform_code, geometry.qform_code),
        minimum=min(minima, default=None),
        maximum=max(maxima, default=None),
        means=tuple(channel.mean for channel in channels),
        not_finite=sum(channel.not_finite for channel in channels),
        digest=hashlib.sha256("".join(channel.digest for channel in channels).encode()).hexdigest(),
    )


def _picture(case: StoredCase) -> str:
    values = list(range(1, len(case.statistics.class_counts)))
    return draw(planes_through(case.channel(0), case.label), values=values, spacing=case.spacing)


def _digest(label: np.ndarray) -> str:
    return hashlib.sha256(repr(label.shape).encode() + label.tobytes()).hexdigest()


def _files(root: Path, manifest: Manifest) -> list[Path]:
    return [root / entry.file for entry in manifest.cases.values()]


def _bytes(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
