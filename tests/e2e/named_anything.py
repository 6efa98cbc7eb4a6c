"""A study whose cases, classes, modalities and experiment have any names, from its scans to its report."""

import csv
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import nibabel
import numpy as np

from ossnet.config import Config
from ossnet.data import PrepareConfig, Store
from ossnet.data.prepare.build import finalize, make_case, open_store_for_writing
from ossnet.data.prepare.plan import make_plan
from ossnet.data.store.case_file import write_case
from ossnet.distributed.reports.page import write_files
from ossnet.distributed.reports.runs import read_rows
from ossnet.distributed.tracking.client import MetricPoint, RunSpec, Tracker, TrackingConfig
from ossnet.distributed.tracking.names import original_keys
from ossnet.distributed.tracking.store import open_client
from ossnet.inference.batch.inputs import find_scans
from ossnet.inference.batch.runner import PredictionJob, predict_scans, predict_sequential
from ossnet.inference.config import ExportConfig, PredictConfig
from ossnet.training_run import run_training

CASES, LABELS, CHANNELS = 5, 6, 3
SHAPE = (10, 9, 8)
_TINY = {
    "model.encoder_channels": (4,),
    "model.decoder_width": 8,
    "model.decoder_blocks": 1,
    "model.patch_edge": 3,
    "sampling.points": 64,
    "training.batch_size": 2,
    "training.epochs": 1,
    "training.validate_every": 1,
    "optimizer.name": "adamw",
}


@dataclass(frozen=True)
class Names:
    """What a user names freely."""

    cases: Sequence[str]
    labels: Sequence[str]
    channels: Sequence[str]
    experiment: str


@dataclass
class LoggedEpochs:
    """Metrics of a run on their way to MLflow, without an actor between."""

    tracker: Tracker
    run: str
    names: set[str] = field(default_factory=set)

    def step(self, metrics: dict[str, float], step: int) -> None:
        """Ignore the metrics of a single step."""

    def epoch(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        """Log an epoch and its checkpoint."""
        self.names |= metrics.keys()
        self.tracker.log(self.run, [MetricPoint(name, value, 1, 1) for name, value in metrics.items()])
        if checkpoint is not None:
            self.tracker.log_checkpoint(self.run, checkpoint)


def write_scans(folder: Path) -> None:
    """Write the files of `CASES` cases, each class in each of them."""
    rng = np.random.default_rng(0)
    for case in range(CASES):
        label = rng.integers(0, LABELS + 1, SHAPE).astype(np.uint8)
        nibabel.save(nibabel.Nifti1Image(label, np.eye(4)), folder / f"{case}_label.nii")
        for channel in range(CHANNELS):
            voxels = (label * 10 + rng.normal(0, 3, SHAPE) + 50 * channel).astype(np.float32)
            nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), folder / f"{case}_{channel}.nii")


def describe(names: Names, scans: Path, folder: Path) -> Path:
    """Write an nnU-Net description that names the files of `write_scans` so."""
    cases = {
        name: {
            "images": [str(scans / f"{case}_{channel}.nii") for channel in range(CHANNELS)],
            "label": str(scans / f"{case}_label.nii"),
        }
        for case, name in enumerate(names.cases)
    }
    labels = {name: value for value, name in enumerate(names.labels, start=1)}
    channels = {str(number): name for number, name in enumerate(names.channels)}
    description = {"channel_names": channels, "labels": {"background": 0} | labels, "dataset": cases}
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def prepare(source: Path, output: Path) -> Store:
    """Make a store, in a loop instead of a cluster."""
    plan = make_plan(PrepareConfig(source, output, allow_outside=True))
    with open_store_for_writing(plan):
        for case in plan.missing:
            write_case(plan.path(case), make_case(case, plan.recipe))
        assert not finalize(plan, {}).excluded
    return Store.open(output)


def train(store: Store, checkpoint: Path, tracking: TrackingConfig) -> set[str]:
    """Train an epoch with the runs in `tracking`; the names of its metrics, all of which are there."""
    tracker, run = Tracker(tracking), uuid.uuid4().hex
    reporter = LoggedEpochs(tracker, run)
    config = Config.preset("oss-net-c", store).replace(_TINY)
    tracker.open_run(RunSpec(run, "oss-net-c", config.flatten(), {"network": "oss-net-c"}))
    tracker.log_text(run, json.dumps(list(store.manifest.cases)), "cases.json")

    run_training(config, store, reporter=_KeepingReporter(reporter, checkpoint))
    tracker.close(run, "FINISHED")
    tracker.flush()
    assert tracker.take_failures() == {}
    client = open_client(tracking.uri)
    experiment = tracking.find_experiment(client)
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id], f"tags.trial_id = '{run}'")
    original = original_keys(found.data.tags)
    logged = {original.get(name, name) for name in found.data.metrics}
    assert logged == reporter.names
    assert found.info.status == "FINISHED"
    return logged


@dataclass
class _KeepingReporter:
    """Keeps a copy of the checkpoint, which training removes."""

    inner: LoggedEpochs
    checkpoint: Path

    def step(self, metrics: dict[str, float], step: int) -> None:
        """Ignore the metrics of a single step."""

    def epoch(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        """Copy the checkpoint and log the epoch."""
        import shutil

        if checkpoint is not None:
            shutil.copytree(checkpoint, self.checkpoint, dirs_exist_ok=True)
        self.inner.epoch(metrics, checkpoint)


def predict(source: Path, checkpoint: Path, output: Path) -> dict[str, Path]:
    """Predict the scans of a source; the label map of each case, by its name."""
    export = ExportConfig(probabilities=True, uncertainty=True, mesh="ply", volumes=True)
    job = PredictionJob((checkpoint,), output, PredictConfig(device="cpu"), export)
    predictor = job.predictor()
    scans = find_scans([source], predictor.task)
    results = list(predict_scans(job, scans, partial(predict_sequential, predictor, job)))
    assert [result.error for result in results] == [None] * CASES
    again = predict_scans(
        job, find_scans([source], predictor.task), partial(predict_sequential, predictor, job)
    )
    assert all(result.cached for result in again)
    for result in results:
        assert result.output is not None
        probabilities = list(output.glob(glob_escape(result.output.name, "_seg.nii.gz", "_*_prob.nii.gz")))
        assert len(probabilities) == LABELS
        volumes = json.loads(
            (output / result.output.name.replace("_seg.nii.gz", "_volumes.json")).read_text(encoding="utf-8")
        )
        assert volumes["case"] == result.case
        assert volumes["volumes"].keys() == result.volumes_ml.keys()
    return {result.case: result.output for result in results if result.output is not None}


def glob_escape(name: str, end: str, pattern: str) -> str:
    """A pattern for what begins as a file's name without its end."""
    import glob

    return glob.escape(name.removesuffix(end)) + pattern


def report(tracking: TrackingConfig, output: Path, title: str) -> int:
    """Write a report; the number of its runs."""
    rows = read_rows(tracking)
    files = write_files(rows, output, title=title)
    assert all(path.stat().st_size > 0 for path in files.values())
    with files["table"].open(encoding="utf-8", newline="") as table:
        assert len(list(csv.reader(table))) == len(rows) + 1
    return len(rows)
