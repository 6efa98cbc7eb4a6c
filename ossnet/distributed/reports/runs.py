"""The runs of an experiment as rows, and as a table in the terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ossnet.config_tree import unknown_name
from ossnet.distributed.tracking.names import original_keys
from ossnet.distributed.tracking.store import TrackingConfig, open_client
from ossnet.errors import UserError
from ossnet.metric_names import (
    CASE_TIME,
    CHECKPOINT_FOLDER,
    EARLY_STOPPED,
    ELAPSED,
    EPOCH,
    GPU_HOURS,
    INFEASIBLE,
    MEMORY,
    SEARCH_PARAMS,
    STEP_TIME,
    STOP_REASON,
    STORE,
    TITLE,
    TRIAL_NUMBER,
    VAL_DICE,
)
from ossnet.output.tables import print_table

if TYPE_CHECKING:
    from mlflow.entities import Run

COLUMNS = ("run", "status", "Dice", "GiB", "s/step", "s/case", "minutes")
STOPPED_EARLY = "stopped early"
_PARENT = "mlflow.parentRunId"
_SHOWN = 6  # parameters in the terminal's table; the files have all
_NAMED = {"model.kind", "model.name"}  # the run's name says so already


@dataclass(frozen=True)
class RunRow:
    """A run of an experiment, as MLflow has it."""

    name: str
    network: str
    status: str
    """Finished, running, failed, or why the run was stopped."""
    dice: float | None
    """The last mean Dice on the validation split."""
    memory_gib: float | None
    """Peak memory of a training step."""
    step_s: float | None
    """Seconds of an optimizer step."""
    case_s: float | None
    """Seconds of predicting a whole volume in validation."""
    elapsed_s: float | None
    """Seconds of training and validation."""
    gpu_hours: float | None
    """GPU-hours of the run; None without a GPU."""
    epoch: float | None
    """The number of the last epoch."""
    params: Mapping[str, str]
    search_params: tuple[str, ...] = ()
    """The parameters that a search space decided."""
    trial: int | None = None
    """The number of its trial in a study."""
    store: str | None = None
    """The store that it was trained on."""
    checkpoint: str | None = None
    """The folder of its checkpoint, where that is kept."""

    @property
    def numbers(self) -> tuple[float | None, ...]:
        """The values of the numeric columns in `COLUMNS`."""
        minutes = None if self.elapsed_s is None else self.elapsed_s / 60
        return (self.dice, self.memory_gib, self.step_s, self.case_s, minutes)

    @property
    def cells(self) -> tuple[str, ...]:
        """The texts of `COLUMNS`, for a table."""
        numbers = ("" if number is None else f"{number:.4g}" for number in self.numbers)
        return (self.name, self.status, *numbers)

    @property
    def remaining_s(self) -> float | None:
        """Estimated seconds from where the run was stopped early to its end; None for other runs."""
        if self.status != STOPPED_EARLY or not self.elapsed_s or not self.epoch:
            return None
        planned = self.elapsed_s * float(self.params["training.epochs"]) / self.epoch
        limit = self.params.get("training.max_time_s", "null")
        planned = planned if limit == "null" else min(planned, float(limit))
        return max(planned - self.elapsed_s, 0.0)


def read_rows(tracking: TrackingConfig) -> list[RunRow]:
    """Read an experiment's runs, the best Dice first; parent runs of studies are left out.

    Raises:
        UserError: there is no such experiment (names the nearest), or no run in it.
    """
    if not tracking.exists:
        raise UserError(
            tracking.uri,
            expected="an MLflow store",
            found="none",
            remedy="run `ossnet tune` or `ossnet train` here first",
        )
    client = open_client(tracking.uri)
    experiment = tracking.find_experiment(client)
    if experiment is None:
        names = [each.name for each in client.search_experiments()]
        raise unknown_name(tracking.uri, "experiment", tracking.experiment, names)
    found = client.search_runs([experiment.experiment_id])
    runs = list(found)
    while found.token:
        found = client.search_runs([experiment.experiment_id], page_token=found.token)
        runs += found
    parents = {run.data.tags.get(_PARENT) for run in runs}
    rows = [_to_row(run) for run in runs if run.info.run_id not in parents]
    if not rows:
        raise UserError(
            f"experiment {tracking.experiment!r} in {tracking.uri}",
            expected="a run",
            found="none yet",
            remedy="run `ossnet tune` or `ossnet train` first",
        )
    return sorted(rows, key=lambda row: (row.dice is None, -(row.dice or 0.0), row.name))


def varying(rows: Sequence[RunRow]) -> list[str]:
    """The varying parameters of the search spaces; without a space, the parameters in which runs differ."""
    decided = {path for row in rows for path in row.search_params}
    names = decided or {name for row in rows for name in row.params} - _NAMED
    return sorted(name for name in names if len({row.params.get(name) for row in rows}) > 1)


def show(rows: Sequence[RunRow]) -> None:
    """Print the runs as a table."""
    params = varying(rows)[:_SHOWN]
    columns = (*COLUMNS, *(name.partition(".")[2] for name in params))
    cells = ((*row.cells, *(row.params.get(name, "") for name in params)) for row in rows)
    print_table(columns, cells, left=len(columns))


def _to_row(run: "Run") -> RunRow:
    metrics, tags = run.data.metrics, run.data.tags
    originals = original_keys(tags)
    status = str(run.info.status).lower()
    if INFEASIBLE in tags:
        status = f"over budget ({tags[INFEASIBLE]})"
    elif status == "killed":
        reason = tags.get(STOP_REASON, "killed")
        status = STOPPED_EARLY if reason == EARLY_STOPPED else reason
    return RunRow(
        name=tags.get(TITLE) or run.info.run_name or run.info.run_id,
        network=tags.get("network", "unknown"),
        status=status,
        dice=metrics.get(VAL_DICE),
        memory_gib=metrics.get(MEMORY),
        step_s=metrics.get(STEP_TIME),
        case_s=metrics.get(CASE_TIME),
        elapsed_s=metrics.get(ELAPSED),
        gpu_hours=metrics.get(GPU_HOURS),
        epoch=metrics.get(EPOCH),
        params={originals.get(name, name): value for name, value in run.data.params.items()},
        search_params=tuple(filter(None, tags.get(SEARCH_PARAMS, "").split(","))),
        trial=int(tags[TRIAL_NUMBER]) if TRIAL_NUMBER in tags else None,
        store=tags.get(STORE),
        checkpoint=tags.get(CHECKPOINT_FOLDER),
    )
