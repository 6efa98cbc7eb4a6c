"""The best network of a study in MLflow: its checkpoint there, and its version in the Model Registry."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from ossnet.distributed.tuning.result import StudyResult

if TYPE_CHECKING:
    from ray.actor import ActorHandle

    from ossnet.distributed.tracking.client import Tracker

logger = logging.getLogger(__name__)

_FETCH_S = 300.0  # for a checkpoint


def register_best(tracker: "ActorHandle[Tracker]", result: StudyResult, name: str) -> str | None:
    """Register the best network; its URI, or None where there is none or the registry does not take it."""
    import ray

    if result.checkpoint is None:
        return None
    try:
        uri: str = ray.get(tracker.register.remote(result.run, result.checkpoint, name))
    except ray.exceptions.RayError as error:  # what was found does not depend on it
        logger.info(f"warning: the best network was not registered: {str(error).strip().splitlines()[-1]}")
        return None
    return uri


def fetch_logged(tracker: "ActorHandle[Tracker]", run: str, folder: Path) -> bool:
    """Copy MLflow's checkpoint of a run; False where there is none, or MLflow does not answer."""
    import ray

    try:
        found: bool = ray.get(tracker.fetch_checkpoint.remote(run, folder), timeout=_FETCH_S)
    except ray.exceptions.RayError as error:
        logger.warning(f"warning: MLflow's copy cannot be had: {str(error).strip().splitlines()[-1]}")
        return False
    return found
