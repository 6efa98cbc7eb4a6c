"""Predicting scan after scan: a bad one is told and passed over, what is there already is kept."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ossnet.errors import UserError
from ossnet.inference.batch.cache import PredictionCache, PredictionResult
from ossnet.inference.batch.inputs import ScanInput
from ossnet.inference.batch.options import ExportConfig, PredictConfig
from ossnet.inference.export.outputs import export
from ossnet.inference.predictor import Predictor


@dataclass(frozen=True)
class PredictionJob:
    """What to do with every scan, and where the results go."""

    checkpoint: Path
    output: Path
    manner: PredictConfig = field(default_factory=PredictConfig)
    exported: ExportConfig = field(default_factory=ExportConfig)

    @property
    def absolute(self) -> "PredictionJob":
        """The same seen from any folder."""
        return replace(self, checkpoint=self.checkpoint.absolute(), output=self.output.absolute())

    def predictor(self) -> Predictor:
        """Read from the checkpoint.

        Raises:
            UserError: as `Predictor.from_checkpoint`.
        """
        how, spacing = self.manner, self.manner.spacing
        first, second, third = spacing * 3 if len(spacing) == 1 else spacing or (0.0, 0.0, 0.0)
        return Predictor.from_checkpoint(
            self.checkpoint,
            method=how.method,
            precision=how.precision,
            flips=how.flips,
            spacing=(first, second, third) if spacing else None,
            compiled=how.compile,
            device=how.device,
        )

    def records(self) -> PredictionCache:
        """Of the output."""
        return PredictionCache.of(self.checkpoint, self.manner, self.exported, self.output)


Predict = Callable[[Sequence[ScanInput]], Iterable[PredictionResult]]


def predict_scans(
    order: PredictionJob, scans: Sequence[ScanInput], predict: Predict
) -> Iterator[PredictionResult]:
    """Outcomes of every scan as they are asked for: first of those that are there already.

    Args:
        predict: outcomes of the others, as `predict_sequential` gives them.

    Raises:
        UserError: a note of an earlier prediction is damaged.
    """
    records = order.records()
    found = {scan.case: records.find(scan) for scan in scans}
    yield from (outcome for outcome in found.values() if outcome is not None)
    missing = [scan for scan in scans if found[scan.case] is None]
    if missing:
        yield from predict(missing)


def predict_sequential(
    predictor: Predictor, order: PredictionJob, scans: Sequence[ScanInput]
) -> Iterator[PredictionResult]:
    """Write `<case>_seg.nii.gz`, what is to be exported and a note for every scan."""
    records = order.records()
    for scan in scans:
        yield predict_scan(predictor, order, records, scan)


def predict_scan(
    predictor: Predictor, order: PredictionJob, records: PredictionCache, scan: ScanInput
) -> PredictionResult:
    """The same for one scan; of a bad one, why it is bad."""
    began = time.monotonic()
    try:
        if scan.problem is not None:
            raise UserError(scan.problem)
        segmentation = predictor(scan.images, with_probabilities=order.exported.of_probabilities)
        path = order.output / f"{scan.case}_seg.nii.gz"
        segmentation.save(path)
        files = [path, *export(segmentation, scan.case, order.output, order.exported)]
    except UserError as error:
        return PredictionResult(scan.case, problem=str(error))
    found = segmentation.audit
    outcome = PredictionResult(
        scan.case,
        path,
        dict(segmentation.volumes_ml),
        time.monotonic() - began,
        error_bound=None if found is None else found.bound,
    )
    records.keep(scan, outcome, files)
    return outcome
