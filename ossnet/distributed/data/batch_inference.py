"""Ray Data: predict scans on many workers at once, each of which loads the network once."""

import json
import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ossnet.config_tree import from_dict, to_dict
from ossnet.distributed.cluster.connection import connect
from ossnet.distributed.cluster.nodes import nodes
from ossnet.distributed.cluster.resources import WorkerResources, plan_run
from ossnet.distributed.cluster.shared_output import check_output_everywhere
from ossnet.distributed.data.job_files import JobFiles, copied, of_the_job
from ossnet.errors import UserError
from ossnet.inference.batch.cache import PredictionResult, image_files
from ossnet.inference.batch.runner import PredictionJob, predict_scan
from ossnet.inference.batch.scan_input import ScanInput
from ossnet.output.file_stamp import FileStamp
from ossnet.output.remote.copies import folder_here, location_of, move_up
from ossnet.output.remote.folder import unreachable

_MAX_LOSSES = 2  # a scan that is lost with its worker so often is likely the cause
_READ = (".json", ".safetensors")  # the files of a checkpoint that prediction reads


def predict_parallel(
    job: PredictionJob, workers: int, scans: Sequence[ScanInput]
) -> Iterator[PredictionResult]:
    """Predict scans; yields results as they are done, in any order.

    Scans and checkpoints may lie where this node alone has them; the output must be a folder that every node
    sees, or one of object storage. The scan of a worker that is killed is tried again after the others; if
    that worker is killed too, the scan has an error.

    Raises:
        UserError: the workers can never all be placed, a node does not reach the output, the object storage
            does not answer, or the cluster was lost.
    """
    left, losses = {scan.case: scan for scan in scans}, Counter[str]()
    with connect():
        import ray

        check_output_everywhere(job.output)
        resources = plan_run(nodes(), workers)
        while left:
            size = min(workers, len(left))
            try:
                # The last worker's death ends the batch; lost scans are handled below in any case.
                with suppress(ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError):
                    for result in _batch(job, size, resources, list(left.values())):
                        yield _taken_over(job, left.pop(result.case), result)
            except ray.exceptions.RayError as error:
                raise _missing(job, list(left), error) from error
            for scan in list(left.values())[:size]:  # each worker holds one at a time, in this order
                del left[scan.case]
                losses[scan.case] += 1
                _update(job, scan)
                cached = job.cache.get(scan)  # written, but its worker was killed before it could report
                if cached is None and losses[scan.case] < _MAX_LOSSES:
                    left[scan.case] = scan
                else:
                    yield (
                        replace(cached, cached=False)
                        if cached
                        else PredictionResult(scan.case, error=str(_killed(scan)))
                    )


def _batch(
    job: PredictionJob, size: int, resources: WorkerResources, scans: Sequence[ScanInput]
) -> Iterator[PredictionResult]:
    """Results of all scans whose worker lives; no worker starts again, which Ray Data cannot do quietly."""
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # we report its errors
    shared = _SharedJob.of(job)
    rows = ray.data.from_items([_row(scan) for scan in scans], override_num_blocks=len(scans))
    rows.context.enable_progress_bars = False
    rows.context.max_errored_blocks = size - 1  # without any worker it would wait forever
    with warnings.catch_warnings(action="ignore"):  # there is no other way yet to say what an actor holds
        done = rows.map(
            _Worker,
            fn_constructor_args=(shared,),
            compute=ray.data.ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=1),
            num_cpus=resources.cpus,
            num_gpus=resources.gpus,
            max_restarts=0,
        )
    for row in done.iter_rows():
        yield from_dict(PredictionResult, json.loads(row["result"]))


def _killed(scan: ScanInput) -> UserError:
    return UserError(
        f"{scan.images[0]}: the process that predicts it was killed {_MAX_LOSSES} times, "
        "as happens when RAM runs out",
        remedy="give fewer --workers and give the same command again, which predicts what is missing",
    )


def _missing(job: PredictionJob, cases: Sequence[str], error: Exception) -> UserError:
    names = ", ".join(cases[:3]) + ", ..." * (len(cases) > 3)
    return UserError(
        location_of(job.output),
        expected=f"{len(cases)} more scans ({names})",
        found=f"none, as Ray's cluster failed ({type(error).__name__})",
        remedy="give the same command again, which predicts what is missing",
    )


def _taken_over(job: PredictionJob, scan: ScanInput, result: PredictionResult) -> PredictionResult:
    """A worker's result as that of the job, whose copy of the output has its files then, too."""
    if result.output is None:
        return result
    _update(job, scan)
    return replace(result, output=job.output / result.output.name)


def _update(job: PredictionJob, scan: ScanInput) -> None:
    try:
        job.cache.update(scan)
    except OSError as error:
        raise unreachable(location_of(job.output), error) from error


@dataclass(frozen=True)
class _SharedJob:
    """A job as a worker on any node gets it."""

    job: PredictionJob
    """With the absolute paths of the job's node."""
    output: str
    """Where the output lies: its path, or its URL."""
    checkpoints: tuple[FileStamp, ...]
    """The files of all of its networks."""
    files: JobFiles

    @classmethod
    def of(cls, job: PredictionJob) -> "_SharedJob":
        """The job of this node."""
        folders = [member.checkpoint.absolute() for member in job.members]
        job = job.moved(folders, job.output.absolute())
        read = [path for folder in folders for path in sorted(folder.iterdir()) if path.suffix in _READ]
        stamps = tuple(FileStamp.of(path) for path in dict.fromkeys(read))
        return cls(job, location_of(job.output), stamps, JobFiles.here())


class _Worker:
    """Predicts scans in one process, which holds the network."""

    def __init__(self, shared: _SharedJob) -> None:
        self.shared, self.kept = shared, ExitStack()  # with the process: an ensemble reads its networks again
        folder = self.kept.enter_context(shared.files.at_hand(shared.checkpoints))
        checkpoints = [copied(member.checkpoint, folder) for member in shared.job.members]
        self.job = shared.job.moved(checkpoints, folder_here(shared.output))
        self.predictor = self.job.predictor()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        scan = from_dict(ScanInput, json.loads(row["scan"]))
        try:
            result = self._predict(scan, [FileStamp(*each) for each in json.loads(row["images"])])
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            failure = UserError(
                scan.images[0],
                expected="a scan that can be predicted",
                found=reason,
                remedy="check its files",
            )
            result = PredictionResult(scan.case, error=str(failure))
        return {"result": json.dumps(to_dict(result))}

    def _predict(self, scan: ScanInput, images: list[FileStamp]) -> PredictionResult:
        """Predict a scan that this node may have to copy first; what is on object storage is uploaded.

        Raises:
            OSError: a file cannot be copied or uploaded.
        """
        self.job.cache.update(scan)  # with the record of an earlier result
        with self.shared.files.at_hand(images) as folder:
            here = replace(scan, images=tuple(copied(path, folder) for path in scan.images))
            result = predict_scan(self.predictor, self.job, here, images)
            if result.error is not None:
                return replace(result, error=of_the_job(result.error, folder))
        for path in self.job.cache.written(scan):
            move_up(path)
        return result


def _row(scan: ScanInput) -> dict[str, str]:
    """A scan as text, so that Ray Data makes no columns of its fields."""
    images = [str(Path(path).absolute()) for path in scan.images]
    files = [] if scan.error else image_files(scan)
    return {"scan": json.dumps({**to_dict(scan), "images": images}), "images": json.dumps(files)}
