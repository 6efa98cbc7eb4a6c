"""Verifying a folder of scans: each case on its own, in parallel as RAM allows, then all side by side."""

import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from math import prod
from pathlib import Path

from ossnet.data.imaging.nifti import read_header
from ossnet.data.layouts import Case, Source, read_source
from ossnet.data.prepare.progress import progress
from ossnet.data.verification.duplicates import find_duplicates
from ossnet.data.verification.inspection import Inspection, inspect
from ossnet.data.verification.issues import Issue, Verification, in_order
from ossnet.data.verification.remap import propose
from ossnet.errors import UserError

_PER_VOXEL = 8
"""Bytes of RAM a case takes: its label as stored and encoded, and where its image is not 0."""
_SLABS = 8 << 20
"""Voxels in the slabs that are read, converted and counted."""
_SHARE = 4
"""That part of the machine's RAM is used at most; others work on it too."""


@dataclass(frozen=True)
class _Size:
    voxels: int
    bytes: int
    """Uncompressed, of all images."""


def verify(source: Path | str, layout: str = "auto") -> Verification:
    """Read every file of a folder of scans and tell all that is wrong with it.

    Files are looked at in slabs, so that RAM does not grow with the number of modalities.

    Args:
        source: folder of scans, or a CSV table of them.
        layout: as for `read_source`.

    Raises:
        UserError: the folder cannot be understood at all.
    """
    start = time.monotonic()
    found = read_source(Path(source), layout)
    sizes = {case.id: _size(case) for case in found.cases}
    inspections: dict[str, Inspection] = {}
    with progress("verifying", cases=len(sizes), size=sum(size.bytes for size in sizes.values())) as advance:
        for case, inspection in _inspect_all(found, workers=_workers(sizes.values())):
            inspections[case] = inspection
            advance(sizes[case].bytes)
    looks = [inspections[case.id] for case in found.cases]
    unmatched = [Issue.error(text, case=name, files=()) for name, text in found.unmatched.items()]
    alone = [finding for look in looks for finding in look.findings]
    bad = {finding.case for finding in alone if finding.severity == "error"}
    views = tuple(look.view for look in looks)
    beside = find_duplicates([view for view in views if view.case not in bad])
    return Verification(
        root=Path(source),
        layout=found.layout,
        modalities=found.modalities,
        labels=found.labels,
        cases=views,
        findings=in_order([*unmatched, *alone, *beside]),
        remap=propose(views, found.labels),
        seconds=time.monotonic() - start,
    )


def _inspect_all(source: Source, *, workers: int) -> Iterator[tuple[str, Inspection]]:
    """Case ids and what was seen of them, as they are done."""
    with ThreadPoolExecutor(workers) as pool:
        running = {pool.submit(inspect, case, source): case.id for case in source.cases}
        for done in as_completed(running):
            yield running[done], done.result()


def _workers(sizes: Iterable[_Size]) -> int:
    """How many cases are read at once: one a processor, fewer where the largest would fill the RAM."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    each = _PER_VOXEL * (max(size.voxels for size in sizes) + _SLABS)
    return max(1, min(os.cpu_count() or 1, memory // _SHARE // each))


def _size(case: Case) -> _Size:
    """As the first image's header tells; nothing where it cannot be read, which is told later."""
    try:
        file = read_header(case.images[0])
    except UserError:
        return _Size(0, 0)
    voxels = prod(file.geometry.shape)
    return _Size(voxels, voxels * file.channels * file.dtype.itemsize * len(case.images))
