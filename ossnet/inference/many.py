"""Predicting scan after scan: a bad one is told and passed over."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ossnet.errors import UserError
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


def predict_scans(predictor: Predictor, scans: Sequence[Scanned], output: Path) -> Iterator[Outcome]:
    """Write `<case>_seg.nii.gz` for every scan, one after the other as the outcomes are asked for."""
    for scan in scans:
        began = time.monotonic()
        try:
            if scan.problem is not None:
                raise UserError(scan.problem)
            segmentation = predictor(scan.images)
            path = output / f"{scan.case}_seg.nii.gz"
            segmentation.save(path)
        except UserError as error:
            yield Outcome(scan.case, problem=str(error))
        else:
            yield Outcome(scan.case, path, segmentation.volumes_ml, time.monotonic() - began)
