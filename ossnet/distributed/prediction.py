"""Ray Data: scans predicted on many workers at once, each of which loads the network once."""

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ossnet.distributed.cluster import connect, nodes
from ossnet.distributed.resources import Share, plan_run
from ossnet.errors import UserError
from ossnet.inference.inputs import Scanned
from ossnet.inference.many import Order, predict_scan
from ossnet.inference.records import Outcome
from ossnet.tree import from_dict, to_dict

_LOST = 3  # how often a batch goes on with the scans that are left when a process is gone


def on_workers(order: Order, workers: int, scans: Sequence[Scanned]) -> Iterator[Outcome]:
    """Outcomes as they are done, in any order; the output must be a folder that every node sees.

    Raises:
        UserError: so many workers can never be placed, or one was lost again and again.
    """
    left = {scan.case: scan for scan in scans}
    with connect():
        import ray

        share = plan_run(nodes(), workers)
        for lost in range(_LOST + 1):
            try:
                for outcome in _batch(order, workers, share, list(left.values())):
                    del left[outcome.case]
                    yield outcome
            except ray.exceptions.RayError as error:
                if lost == _LOST:
                    raise UserError(_missing(order, list(left), error)) from error
            else:
                return


def _batch(order: Order, workers: int, share: Share, scans: Sequence[Scanned]) -> Iterator[Outcome]:
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what it tells is told by us
    rows = ray.data.from_items([_row(scan) for scan in scans], override_num_blocks=len(scans))
    rows.context.enable_progress_bars = False
    with warnings.catch_warnings(action="ignore"):  # there is no other way yet to say what an actor holds
        done = rows.map(
            _Worker,
            fn_constructor_args=(order.absolute,),
            concurrency=min(workers, len(scans)),
            num_cpus=share.cpus,
            num_gpus=share.gpus,
            max_restarts=0,
        )
    for row in done.iter_rows():
        yield from_dict(Outcome, json.loads(row["outcome"]))


def _missing(order: Order, cases: Sequence[str], error: Exception) -> str:
    names = ", ".join(cases[:3]) + ", ..." * (len(cases) > 3)
    return (
        f"{order.output}: {len(cases)} scans are missing ({names}): a worker was lost {_LOST + 1} times "
        f"({type(error).__name__}), as happens when RAM runs out: ask for fewer --workers and give the same "
        "command again, which goes on where this stopped"
    )


class _Worker:
    """One process with the network in it."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.predictor = order.predictor()
        self.records = order.records()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        scan = from_dict(Scanned, json.loads(row["scan"]))
        try:
            outcome = predict_scan(self.predictor, self.order, self.records, scan)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            problem = f"{scan.images[0]}: the scan could not be predicted ({reason}); look at its files"
            outcome = Outcome(scan.case, problem=problem)
        return {"outcome": json.dumps(to_dict(outcome))}


def _row(scan: Scanned) -> dict[str, str]:
    """As text, so that one scan's fields do not shape another's."""
    images = [str(Path(path).absolute()) for path in scan.images]
    return {"scan": json.dumps({**to_dict(scan), "images": images})}
