"""Prediction of scan after scan: a bad one is reported and skipped, a cached one is not repeated."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from ossnet.data.store.training_range import TrainingRange
from ossnet.errors import UserError
from ossnet.inference.batch.cache import PredictionCache, PredictionResult, label_map
from ossnet.inference.batch.scan_input import ScanInput
from ossnet.inference.config import ExportConfig, PredictConfig
from ossnet.inference.ensemble import AnyPredictor, Member, load_predictor, read_members
from ossnet.inference.export.outputs import export
from ossnet.inference.scans import read_scan
from ossnet.output.file_stamp import FileStamp
from ossnet.output.remote.copies import keep


@dataclass(frozen=True)
class PredictionJob:
    """A set of scans to predict, the outputs to write, and their folder."""

    checkpoints: tuple[Path, ...]
    """The folder that training wrote; several, or one with an ensemble, predict together."""
    output: Path
    """The folder of the results."""
    config: PredictConfig = field(default_factory=PredictConfig)
    """Options of prediction."""
    export: ExportConfig = field(default_factory=ExportConfig)
    """Outputs to write in addition to the label maps."""

    @cached_property
    def members(self) -> tuple[Member, ...]:
        """The networks that predict."""
        return read_members(self.checkpoints)

    @cached_property
    def trained_on(self) -> TrainingRange | None:
        """What the first network was trained on, as far as its checkpoint says."""
        return TrainingRange.read(self.members[0].checkpoint)

    @cached_property
    def cache(self) -> PredictionCache:
        """The records of the output; the checkpoints are read for them once a job."""
        return PredictionCache.of(self.members, self.config, self.export, self.output)

    def moved(self, checkpoints: Sequence[Path], output: Path) -> "PredictionJob":
        """This job with the checkpoints of its members, and its output, in other places.

        The cache goes with it: the checkpoints are not read again for it.
        """
        job = replace(self, output=output)
        vars(job)["members"] = tuple(  # where cached_property stores it
            replace(member, checkpoint=folder)
            for member, folder in zip(self.members, checkpoints, strict=True)
        )
        vars(job)["cache"] = replace(self.cache, output=output)
        return job

    def predictor(self) -> AnyPredictor:
        """Read the checkpoints.

        Raises:
            UserError: the reasons of `load_predictor`.
        """
        config, spacing = self.config, self.config.spacing
        first, second, third = spacing * 3 if len(spacing) == 1 else spacing or (0.0, 0.0, 0.0)
        return load_predictor(
            self.members,
            method=config.method,
            precision=config.precision,
            flips=config.flips,
            spacing=(first, second, third) if spacing else None,
            compiled=config.compile,
            device=config.device,
        )


Predict = Callable[[Sequence[ScanInput]], Iterable[PredictionResult]]


def predict_scans(
    job: PredictionJob, scans: Sequence[ScanInput], predict: Predict
) -> Iterator[PredictionResult]:
    """Results of every scan as they are consumed: first the cached ones.

    Args:
        predict: what gives the results of the other scans, such as `predict_sequential`.

    Raises:
        UserError: a record of an earlier prediction is damaged.
    """
    cached = {scan.case: job.cache.get(scan) for scan in scans}
    yield from (result for result in cached.values() if result is not None)
    missing = [scan for scan in scans if cached[scan.case] is None]
    if missing:
        yield from predict(missing)


def predict_sequential(
    predictor: AnyPredictor, job: PredictionJob, scans: Sequence[ScanInput]
) -> Iterator[PredictionResult]:
    """Predict scans one after the other, as `predict_scan` does; each is uploaded, where the output is."""
    for scan in scans:
        result = predict_scan(predictor, job, scan)
        for path in job.cache.written(scan) if result.error is None else ():
            keep(path)
        yield result


def predict_scan(
    predictor: AnyPredictor,
    job: PredictionJob,
    scan: ScanInput,
    images: Sequence[FileStamp] | None = None,
) -> PredictionResult:
    """Write `<case>_seg.nii.gz`, what is to be exported and a record of one scan.

    A bad scan raises nothing: its result says why it is bad.

    Args:
        images: the files of the scan, where it is read from copies.
    """
    began = time.monotonic()
    try:
        if scan.error is not None:
            raise UserError(scan.error)
        image = read_scan(scan.images, predictor.task)
        unlike = job.trained_on.differences(image) if job.trained_on is not None else ()
        segmentation = predictor.segment(image, with_probabilities=job.export.needs_probabilities)
        with job.cache.folder() as aside:
            name = label_map(scan.file)
            segmentation.save(aside / name)
            export(segmentation, scan.case, aside, job.export, source=scan.images[0], file=scan.file)
            audit = segmentation.audit
            result = PredictionResult(
                scan.case,
                job.output / name,
                dict(segmentation.volumes_ml),
                time.monotonic() - began,
                error_bound=None if audit is None else audit.error_bound,
                unlike=unlike,
            )
            job.cache.publish(scan, result, sorted(aside.iterdir()), images)
    except UserError as error:
        return PredictionResult(scan.case, error=str(error))
    return result
