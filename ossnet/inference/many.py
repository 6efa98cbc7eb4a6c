"""Predicting scan after scan: a bad one is told and passed over."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ossnet.errors import UserError
from ossnet.inference.export import ExportConfig, export
from ossnet.inference.inputs import Scanned
from ossnet.inference.predictor import Predictor


@dataclass(frozen=True)
class Outcome:
    """What became of one scan."""

    case: str
    output: Path | None = None
    """None where it failed."""
    volumes_ml: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    """From reading to writing."""
    problem: str | None = None
    wrong_share_bound: float | None = None
    """hierarchical: at 95 % confidence a smaller share of the voxels that were filled in is wrong. Where one
    of those drawn was, all were asked."""


def predict_scans(
    predictor: Predictor,
    scans: Sequence[Scanned],
    output: Path,
    exported: ExportConfig | None = None,
) -> Iterator[Outcome]:
    """Write `<case>_seg.nii.gz` and what is to be exported for every scan, as the outcomes are asked for."""
    exported = exported or ExportConfig()
    for scan in scans:
        began = time.monotonic()
        try:
            if scan.problem is not None:
                raise UserError(scan.problem)
            segmentation = predictor(scan.images, with_probabilities=exported.of_probabilities)
            path = output / f"{scan.case}_seg.nii.gz"
            segmentation.save(path)
            export(segmentation, scan.case, output, exported)
        except UserError as error:
            yield Outcome(scan.case, problem=str(error))
        else:
            found = segmentation.audit
            yield Outcome(
                scan.case,
                path,
                segmentation.volumes_ml,
                time.monotonic() - began,
                wrong_share_bound=None if found is None else found.bound,
            )
