"""Segment new scans with a trained network, each on its own voxel grid or on a finer one."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from types import ModuleType
from typing import TYPE_CHECKING

from ossnet.commands._output import add_to_run, finish, finish_json, new_folder
from ossnet.commands._parse import Command, extract
from ossnet.commands._values import check_counts
from ossnet.inference.config import ExportConfig, PredictConfig

if TYPE_CHECKING:
    from ossnet.inference.batch.cache import PredictionResult


@dataclass(frozen=True)
class PredictOptions(ExportConfig, PredictConfig):
    """Options of this job."""

    checkpoint: tuple[Path, ...] = ()
    """Folder that training wrote; by default that of a short training on a phantom. Several of one task, or
    a study's folder with an ensemble: the mean of their probabilities decides."""
    input: tuple[Path, ...] = ()
    """NIfTI files, one with all modalities or one a modality; or folders of a case or of cases; or DICOM
    series, by folder or file (needs ossnet[dicom]); also on object storage (s3://...). By default the
    phantom's."""
    output: Path | None = None
    """Folder for `<case>_seg.nii.gz`; by default runs/predict-DATE-TIME. What is there already, by the same
    checkpoint and settings from the same files, is not predicted again."""
    onnx: bool = False
    """Export the network too, as ONNX; without --input nothing else is done."""
    workers: int = 1
    """Processes that share the scans, through Ray: on its cluster, or on this machine."""
    json: bool = False
    """Print the result as JSON, last and alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(workers=self.workers)


COMMAND = Command("predict", str(__doc__), PredictOptions)


def main(arguments: Sequence[str]) -> None:
    """Predict case by case; exit code 2 where a case failed."""
    options = COMMAND.parse(arguments)
    from ossnet.output.claim import claimed_output, is_by_ray, job_folder
    from ossnet.output.remote.copies import fetch_input

    checkpoint = tuple(fetch_input(path, is_by_ray) for path in options.checkpoint)
    options = replace(options, checkpoint=checkpoint, input=tuple(map(fetch_input, options.input)))
    output = job_folder(options.output or new_folder("predict"), "predict")
    with claimed_output(output, "predict", sources=[*options.input, *options.checkpoint]):
        _predict(options, output)


def _predict(options: PredictOptions, output: Path) -> None:
    from ossnet.inference.batch.inputs import find_scans
    from ossnet.inference.batch.runner import PredictionJob, predict_scans, predict_sequential
    from ossnet.output.progress import progress

    config, export = extract(PredictConfig, options), extract(ExportConfig, options)
    job = PredictionJob(options.checkpoint or (_demo().checkpoint(),), output, config, export)
    predictor = job.predictor()
    paths = options.input or (() if options.onnx else (_demo().scans(),))
    scans, outcomes = find_scans(paths, predictor.task), list["PredictionResult"]()
    predict = partial(predict_sequential, predictor, job)
    if options.workers > 1:
        from ossnet.distributed.data.batch_inference import (
            predict_parallel,  # needs Ray, which one process does not
        )

        predict = partial(predict_parallel, job, options.workers)
    if options.onnx:
        from ossnet.inference.ensemble import EnsemblePredictor, several
        from ossnet.inference.export.onnx import export_onnx

        if isinstance(predictor, EnsemblePredictor):
            raise several("onnx", predictor.members)
        export_onnx(predictor, job.output)
    with progress("predicting", total=len(scans), unit="scan") as shown:
        for outcome in predict_scans(job, scans, predict):
            outcomes.append(outcome)
            shown(note=f"last {outcome.case}")
            if outcome.error is not None:
                shown.say(f"error: {outcome.error}")
            elif not options.json:
                print(f"{len(outcomes)}/{len(scans)} {outcome}", flush=True)
    add_to_run([each.checkpoint for each in job.members], _metrics(outcomes))
    _finish(outcomes, job.output, as_json=options.json)


def _metrics(outcomes: "list[PredictionResult]") -> dict[str, float]:
    """How many scans there were, how many failed or were unlike the training data, and their time."""
    counts = {
        "scans": len(outcomes),
        "failed": sum(each.error is not None for each in outcomes),
        "unlike": sum(bool(each.unlike) for each in outcomes),
    }
    metrics = {name: float(count) for name, count in counts.items()}
    times = [each.seconds for each in outcomes if each.error is None and not each.cached]
    metrics |= {"seconds_per_scan": fmean(times)} if times else {}
    return {f"prediction/{name}": value for name, value in metrics.items()} if times else {}


def _finish(outcomes: "list[PredictionResult]", output: Path, *, as_json: bool) -> None:
    from ossnet.config_tree import to_dict

    failed = sum(outcome.error is not None for outcome in outcomes)
    if as_json:
        cases = [{**to_dict(outcome), "output": outcome.output} for outcome in outcomes]
        finish_json({"failed": failed, "cases": cases})
    else:
        unlike = sum(bool(outcome.unlike) for outcome in outcomes)
        warned = {"unlike the training data": f"{unlike}, as above: look at these"} if unlike else {}
        finish({"segmentations": f"{len(outcomes) - failed} in {output}", "failed": failed} | warned)
    if failed:
        sys.exit(2)


def _demo() -> ModuleType:
    from ossnet.distributed import demo  # needs Ray, which predicting one's own scans does not

    return demo
