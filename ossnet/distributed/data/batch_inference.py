"""Ray Data: predict scans on many workers at once, each of which loads the network once."""

import json
import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ossnet.config_tree import from_dict, to_dict
from ossnet.distributed.cluster.connection import connect
from ossnet.distributed.cluster.nodes import nodes
from ossnet.distributed.cluster.resources import WorkerResources, plan_run
from ossnet.errors import UserError
from ossnet.inference.batch.cache import PredictionResult
from ossnet.inference.batch.runner import PredictionJob, predict_scan
from ossnet.inference.batch.scan_input import ScanInput

_MAX_LOSSES = 2  # a scan that is lost with its worker so often is likely the cause


def predict_parallel(
    job: PredictionJob, workers: int, scans: Sequence[ScanInput]
) -> Iterator[PredictionResult]:
    """Predict scans; yields results as they are done, in any order.

    The output must be a folder that every node sees. The scan of a worker that is killed is tried again after
    the others; if that worker is killed too, the scan has an error.

    Raises:
        UserError: the workers can never all be placed, or the cluster was lost.
    """
    left, losses = {scan.case: scan for scan in scans}, Counter[str]()
    with connect():
        import ray

        resources = plan_run(nodes(), workers)
        while left:
            size = min(workers, len(left))
            try:
                # The last worker's death ends the batch; lost scans are handled below in any case.
                with suppress(ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError):
                    for result in _batch(job, size, resources, list(left.values())):
                        del left[result.case]
                        yield result
            except ray.exceptions.RayError as error:
                raise _missing(job, list(left), error) from error
            for scan in list(left.values())[:size]:  # each worker holds one at a time, in this order
                del left[scan.case]
                losses[scan.case] += 1
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
    rows = ray.data.from_items([_row(scan) for scan in scans], override_num_blocks=len(scans))
    rows.context.enable_progress_bars = False
    rows.context.max_errored_blocks = size - 1  # without any worker it would wait forever
    with warnings.catch_warnings(action="ignore"):  # there is no other way yet to say what an actor holds
        done = rows.map(
            _Worker,
            fn_constructor_args=(job.absolute(),),
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
        job.output,
        expected=f"{len(cases)} more scans ({names})",
        found=f"none, as Ray's cluster failed ({type(error).__name__})",
        remedy="give the same command again, which predicts what is missing",
    )


class _Worker:
    """Predicts scans in one process, which holds the network."""

    def __init__(self, job: PredictionJob) -> None:
        self.job = job
        self.predictor = job.predictor()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        scan = from_dict(ScanInput, json.loads(row["scan"]))
        try:
            result = predict_scan(self.predictor, self.job, scan)
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


def _row(scan: ScanInput) -> dict[str, str]:
    """A scan as text, so that Ray Data makes no columns of its fields."""
    images = [str(Path(path).absolute()) for path in scan.images]
    return {"scan": json.dumps({**to_dict(scan), "images": images})}
