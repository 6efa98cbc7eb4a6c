"""The faults of `make chaos`, in the order of its table."""

from collections.abc import Iterable

import damages
import machines
import services
from damages import DAMAGES
from fault import Fault
from machines import MACHINE_FAULTS
from nodes import NODE_FAULTS
from services import SERVICE_FAULTS

IN_EVERY_RUN = machines.WORKER_KILLED & machines.TRACKER_KILLED
PAIRS = (
    IN_EVERY_RUN,
    machines.DRIVER_KILLED & damages.STUDY_CUT,
    machines.WORKER_KILLED & services.RUNS_LOCKED,
    machines.SIGTERM & services.MLFLOW_HANGS,
    machines.WORKER_KILLED & services.S3_HANGS,
    machines.DRIVER_KILLED & machines.CLOCK_JUMPS,
    damages.STUDY_EMPTIED & damages.CHECKPOINTS_CUT,
)
FAULTS: Iterable[Fault] = (*MACHINE_FAULTS, *SERVICE_FAULTS, *DAMAGES, *NODE_FAULTS, *PAIRS)
