"""Segment new scans with a trained network; every result lies on its scan's own grid, or on a finer one."""

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from ossnet import cli
from ossnet.inference.config import ExportConfig, PredictConfig

if TYPE_CHECKING:
    from ossnet.inference.batch.cache import PredictionResult


@dataclass(frozen=True)
class Predict(ExportConfig, PredictConfig):
    """Options of this job."""

    checkpoint: Path | None = None
    """Folder that training wrote; by default that of a short training on a phantom."""
    input: tuple[Path, ...] = ()
    """NIfTI files, one with all modalities or one a modality; or folders of a case or of cases. By default
    the phantom's."""
    output: Path | None = None
    """Folder for `<case>_seg.nii.gz`; by default runs/predict-DATE-TIME. What is there already, by the same
    checkpoint and settings from the same files, is not predicted again."""
    onnx: bool = False
    """Write the network itself too, as ONNX; without --input nothing else."""
    workers: int = 1
    """Processes to share the scans, through Ray: on its cluster, or on this machine."""
    json: bool = False
    """Print the result for machines, last and alone."""


def main() -> None:
    """Run the job."""
    options = cli.parse(Predict, description=str(__doc__))
    from ossnet.inference.batch.inputs import find_scans
    from ossnet.inference.batch.runner import PredictionJob, predict_scans, predict_sequential

    config, export = cli.extract(PredictConfig, options), cli.extract(ExportConfig, options)
    checkpoint, output = options.checkpoint or _demo().checkpoint(), options.output
    job = PredictionJob(checkpoint, output or cli.new_folder("predict"), config, export)
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
        from ossnet.inference.export.onnx import export_onnx

        export_onnx(predictor, job.output)
    for outcome in predict_scans(job, scans, predict):
        outcomes.append(outcome)
        if outcome.error is not None:
            print(f"error: {outcome.error}", file=sys.stderr)
        elif not options.json:
            print(f"{len(outcomes)}/{len(scans)} {outcome}")
    _finish(outcomes, job.output, as_json=options.json)


def _finish(outcomes: "list[PredictionResult]", output: Path, *, as_json: bool) -> None:
    from ossnet.config_tree import to_dict

    failed = sum(outcome.error is not None for outcome in outcomes)
    if as_json:
        cli.finish_json({"failed": failed, "cases": to_dict(outcomes)})
    else:
        cli.finish(made={"segmentations": f"{len(outcomes) - failed} in {output}", "failed": failed})
    if failed:
        sys.exit(2)


def _demo() -> ModuleType:
    from ossnet.distributed import demo  # needs Ray, which predicting one's own scans does not

    return demo


if __name__ == "__main__":
    cli.run(main)
