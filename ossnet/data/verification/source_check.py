"""Verifying a folder of scans: each case on its own, in parallel as RAM allows, then all together."""

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from math import prod
from pathlib import Path

from ossnet.data.imaging.nifti import NiftiFile
from ossnet.data.labels.task import Task
from ossnet.data.layouts import Case, Source, read_source
from ossnet.data.verification.duplicates import find_duplicates
from ossnet.data.verification.inspection import Inspection, first_header, inspect
from ossnet.data.verification.issues import Issue, Verification, in_order
from ossnet.data.verification.ranges import odd_ranges
from ossnet.data.verification.remap import suggest_remaps
from ossnet.errors import UserError
from ossnet.output.progress import progress

_BYTES_PER_VOXEL = 8
"""Bytes of RAM a case takes: its label as stored and encoded, and where its image is not 0."""
_SLAB_VOXELS = 8 << 20
"""Voxels in the slabs that are read, converted and counted."""
_RAM_DIVISOR = 4
"""The largest part of the machine's RAM that is used, as a divisor; others work on it too."""


@dataclass(frozen=True)
class _Size:
    voxels: int
    bytes: int
    """Bytes of all uncompressed images."""


def verify(source: Path | str, layout: str = "auto", *, allow_outside: bool = False) -> Verification:
    """Read every file of a folder of scans and report all that is wrong with it.

    Files are read in slabs, so that RAM does not grow with the number of modalities.

    Args:
        source: folder of scans, or a CSV table of them.
        layout, allow_outside: as for `read_source`.

    Raises:
        UserError: the folder cannot be understood at all.
    """
    start = time.monotonic()
    found = read_source(Path(source), layout, allow_outside=allow_outside)
    first = {case.id: first_header(case) for case in found.cases}
    sizes = {case.id: _size(case, first[case.id]) for case in found.cases}
    inspections: dict[str, Inspection] = {}
    with progress("verifying", total=len(sizes), size=sum(size.bytes for size in sizes.values())) as advance:
        for case, inspection in _inspect_all(found, first, workers=_workers(sizes.values())):
            inspections[case] = inspection
            advance(sizes[case].bytes)
    ordered = [inspections[case.id] for case in found.cases]
    unmatched = [Issue.error(error, case=name) for name, error in found.unmatched.items()]
    unmatched += map(Issue.of_source, found.warnings)
    unmatched += _check_labels(found)
    alone = [finding for inspection in ordered for finding in inspection.findings]
    bad = {finding.case for finding in alone if finding.severity == "error"}
    views = tuple(inspection.view for inspection in ordered)
    duplicates = find_duplicates([view for view in views if view.case not in bad])
    named = {finding.case for finding in alone}  # whose fault may be the reason
    odd = odd_ranges([view for view in views if view.case not in named], found.modalities)
    return Verification(
        root=Path(source),
        layout=found.layout,
        modalities=found.modalities,
        labels=found.labels,
        cases=views,
        findings=in_order([*unmatched, *alone, *duplicates, *odd]),
        remap=suggest_remaps(views, found.labels),
        seconds=time.monotonic() - start,
    )


def _check_labels(source: Source) -> list[Issue]:
    """What is wrong with the labels that a source declares; none can be prepared as they are."""
    try:
        Task(source.modalities, source.labels)
    except UserError as error:
        return [Issue("error", "labels", f"{source.root}: {error.where}", *_facts(error))]
    return []


def _facts(error: UserError) -> tuple[str, str, str]:
    return error.expected or "", error.found or "", error.remedy or ""


def _inspect_all(
    source: Source, first: Mapping[str, NiftiFile | UserError], *, workers: int
) -> Iterator[tuple[str, Inspection]]:
    """Case ids with their inspections, as they are done."""
    with ThreadPoolExecutor(workers) as pool:
        running = {pool.submit(inspect, case, source, first[case.id]): case.id for case in source.cases}
        for done in as_completed(running):
            yield running[done], done.result()


def _workers(sizes: Iterable[_Size]) -> int:
    """How many cases are read at once: one a processor, fewer where the largest would fill the RAM."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    each = _BYTES_PER_VOXEL * (max(size.voxels for size in sizes) + _SLAB_VOXELS)
    return max(1, min(os.cpu_count() or 1, memory // _RAM_DIVISOR // each))


def _size(case: Case, first: NiftiFile | UserError) -> _Size:
    """Size by the first image's header; 0 where it cannot be read, which is reported later."""
    if isinstance(first, UserError):
        return _Size(0, 0)
    voxels = prod(first.geometry.shape)
    return _Size(voxels, voxels * first.channels * first.dtype.itemsize * len(case.images))
