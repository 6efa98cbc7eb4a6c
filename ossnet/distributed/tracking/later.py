"""What evaluating and predicting found, added to the run that the checkpoint is of."""

import logging
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ossnet.distributed.tracking.client import TRIAL
from ossnet.distributed.tracking.names import legal_key, legal_text, original_tags
from ossnet.distributed.tracking.outbox import one_line
from ossnet.distributed.tracking.store import TrackingConfig, open_client
from ossnet.errors import UserError
from ossnet.training.reporting import RunOrigin

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

logger = logging.getLogger(__name__)

_TIMEOUT_S = "5"  # of a request: nothing waits for a server that is away
_PER_REQUEST = 1000


def add_to_run(origin: RunOrigin, metrics: Mapping[str, float]) -> None:
    """Add metrics to a run, with a line that says so; nothing where the store or the run is not here.

    Args:
        origin: what the checkpoint says; where `MLFLOW_TRACKING_URI` is set, the run is looked for there.
    """
    from mlflow.exceptions import MlflowException

    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", _TIMEOUT_S)
    tracking = TrackingConfig(os.environ.get("MLFLOW_TRACKING_URI") or origin.uri, origin.experiment, None)
    if not tracking.exists:
        return
    try:
        client = open_client(tracking.uri, write=True)
        run = _find(client, tracking, origin.run)
        if run is not None:
            _log(client, run, metrics)
            logger.info(f"MLflow: {len(metrics)} metrics are added to the run {run.info.run_name!r}")
    except (UserError, MlflowException, OSError) as error:
        logger.warning(f"warning: nothing is added to the checkpoint's run in MLflow: {one_line(error)}")


def _find(client: "MlflowClient", tracking: TrackingConfig, run: str) -> "Run | None":
    experiment = tracking.find_experiment(client)
    if experiment is None:
        return None
    found = client.search_runs([experiment.experiment_id], f"tags.{TRIAL} = '{run}'", max_results=1)
    return found[0] if found else None


def _log(client: "MlflowClient", run: "Run", metrics: Mapping[str, float]) -> None:
    from mlflow.entities import Metric, RunTag

    now = time.time_ns() // 1_000_000
    tags = [RunTag(tag, legal_text(name)) for tag, name in original_tags(metrics).items()]
    entities = [Metric(legal_key(name), value, now, 0) for name, value in metrics.items()]
    client.log_batch(run.info.run_id, tags=tags[:_PER_REQUEST])
    for start in range(0, len(entities), _PER_REQUEST):
        client.log_batch(run.info.run_id, metrics=entities[start : start + _PER_REQUEST])
