"""Ray Data: scans predicted on many workers at once, each of which loads the network once."""

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
from ossnet.inference.batch.inputs import ScanInput
from ossnet.inference.batch.runner import PredictionJob, predict_scan

_TRIES = 2  # a scan that is lost with its worker so often is likely the cause


def predict_parallel(
    job: PredictionJob, workers: int, scans: Sequence[ScanInput]
) -> Iterator[PredictionResult]:
    """Outcomes as they are done, in any order; the output must be a folder that every node sees.

    The scan of a worker that is killed is tried again after the others; if that is killed too it is given up.

    Raises:
        UserError: so many workers can never be placed, or the cluster was lost.
    """
    left, losses = {scan.case: scan for scan in scans}, Counter[str]()
    with connect():
        import ray

        share = plan_run(nodes(), workers)
        while left:
            size = min(workers, len(left))
            try:
                # The last worker's death ends the batch; what is lost is looked for below in any case.
                with suppress(ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError):
                    for outcome in _batch(job, size, share, list(left.values())):
                        del left[outcome.case]
                        yield outcome
            except ray.exceptions.RayError as error:
                raise UserError(_missing(job, list(left), error)) from error
            for scan in list(left.values())[:size]:  # each worker holds one at a time, in this order
                del left[scan.case]
                losses[scan.case] += 1
                found = job.cache.get(scan)  # written, but its worker killed before it could say so
                if found is None and losses[scan.case] < _TRIES:
                    left[scan.case] = scan
                else:
                    yield (
                        replace(found, cached=False)
                        if found
                        else PredictionResult(scan.case, error=_killed(scan))
                    )


def _batch(
    job: PredictionJob, size: int, share: WorkerResources, scans: Sequence[ScanInput]
) -> Iterator[PredictionResult]:
    """Without those whose worker was killed; no worker starts again, which Ray Data cannot do quietly."""
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what it tells is told by us
    rows = ray.data.from_items([_row(scan) for scan in scans], override_num_blocks=len(scans))
    rows.context.enable_progress_bars = False
    rows.context.max_errored_blocks = size - 1  # without any worker it would wait for ever
    with warnings.catch_warnings(action="ignore"):  # there is no other way yet to say what an actor holds
        done = rows.map(
            _Worker,
            fn_constructor_args=(job.absolute(),),
            compute=ray.data.ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=1),
            num_cpus=share.cpus,
            num_gpus=share.gpus,
            max_restarts=0,
        )
    for row in done.iter_rows():
        yield from_dict(PredictionResult, json.loads(row["outcome"]))


def _killed(scan: ScanInput) -> str:
    return (
        f"{scan.images[0]}: the process that predicts it was killed {_TRIES} times, as happens when RAM runs "
        "out: ask for fewer --workers and give the same command again, which predicts what is missing"
    )


def _missing(job: PredictionJob, cases: Sequence[str], error: Exception) -> str:
    names = ", ".join(cases[:3]) + ", ..." * (len(cases) > 3)
    return (
        f"{job.output}: {len(cases)} scans are missing ({names}): Ray's cluster failed "
        f"({type(error).__name__}): give the same command again, which predicts what is missing"
    )


class _Worker:
    """One process with the network in it."""

    def __init__(self, job: PredictionJob) -> None:
        self.job = job
        self.predictor = job.predictor()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        scan = from_dict(ScanInput, json.loads(row["scan"]))
        try:
            outcome = predict_scan(self.predictor, self.job, scan)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            problem = f"{scan.images[0]}: the scan could not be predicted ({reason}); look at its files"
            outcome = PredictionResult(scan.case, error=problem)
        return {"outcome": json.dumps(to_dict(outcome))}


def _row(scan: ScanInput) -> dict[str, str]:
    """As text, so that one scan's fields do not shape another's."""
    images = [str(Path(path).absolute()) for path in scan.images]
    return {"scan": json.dumps({**to_dict(scan), "images": images})}
