"""The runs of an experiment as a table, a page and a figure of Dice against memory."""

import base64
import csv
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ossnet.config_tree import did_you_mean
from ossnet.distributed.reports.compute_cost import ComputeCost
from ossnet.distributed.tracking.client import STOPPED, TrackingConfig
from ossnet.errors import UserError
from ossnet.metric_names import (
    CASE_TIME,
    EARLY,
    ELAPSED,
    EPOCH,
    GPU_HOURS,
    INFEASIBLE,
    MEMORY,
    STEP_TIME,
    VAL_DICE,
    VARIED,
)
from ossnet.output.atomic_write import atomic_write
from ossnet.output.figure import png_bytes
from ossnet.output.tables import print_table

if TYPE_CHECKING:
    from mlflow.entities import Run

    from ossnet.distributed.tuning.storage import TuningStudy

_PARENT = "mlflow.parentRunId"
_COLUMNS = ("run", "status", "Dice", "GiB", "s/step", "s/case", "minutes")
STOPPED_EARLY = "stopped early"
_SHOWN = 6  # parameters in the terminal's table; the files have all
_NAMED = {"model.kind", "model.name"}  # the run's name says so already
_TITLES = {
    "front": "Dice against memory and time",
    "curves": "Learning curves",
    "importances": "What mattered",
}
_STYLE = (
    "body{font:15px sans-serif;margin:2em}table{border-collapse:collapse}"
    "td,th{padding:.3em .8em;border-bottom:1px solid #ccc;text-align:left}img{max-width:48em}"
)


@dataclass(frozen=True)
class RunRow:
    """One run."""

    name: str
    network: str
    status: str
    """finished, running, failed, or why it was stopped."""
    dice: float | None
    """The last on the validation split."""
    memory_gib: float | None
    step_s: float | None
    case_s: float | None
    """Of validation, a whole volume."""
    elapsed_s: float | None
    """Of training and validation."""
    gpu_hours: float | None
    epoch: float | None
    """The last one."""
    params: Mapping[str, str]
    varied: tuple[str, ...] = ()
    """The parameters that a search space decided."""

    @property
    def numbers(self) -> tuple[float | None, ...]:
        """For a table, those of `_COLUMNS`."""
        minutes = None if self.elapsed_s is None else self.elapsed_s / 60
        return (self.dice, self.memory_gib, self.step_s, self.case_s, minutes)

    @property
    def cells(self) -> tuple[str, ...]:
        """For a table, without the parameters."""
        numbers = ("" if number is None else f"{number:.4g}" for number in self.numbers)
        return (self.name, self.status, *numbers)

    @property
    def left_s(self) -> float | None:
        """What it would have taken to its end, had it not been stopped early; None where it was not."""
        if self.status != STOPPED_EARLY or not self.elapsed_s or not self.epoch:
            return None
        planned = self.elapsed_s * float(self.params["training.epochs"]) / self.epoch
        limit = self.params.get("training.max_time_s", "null")
        planned = planned if limit == "null" else min(planned, float(limit))
        return max(planned - self.elapsed_s, 0.0)


def read_rows(tracking: TrackingConfig) -> list[RunRow]:
    """An experiment's runs, best Dice first; a study's own run is not among them.

    Raises:
        UserError: no such experiment (names the nearest), or no run in it.
    """
    from mlflow import MlflowClient

    if not tracking.exists:
        msg = f"{tracking.uri}: no MLflow store there: run jobs/tune.py or jobs/train.py here first"
        raise UserError(msg)
    client = MlflowClient(tracking.uri)
    experiment = client.get_experiment_by_name(tracking.experiment)
    if experiment is None:
        names = [each.name for each in client.search_experiments()]
        raise UserError(did_you_mean(f"experiment in {tracking.uri}:", tracking.experiment, names))
    found = client.search_runs([experiment.experiment_id])
    runs = list(found)
    while found.token:
        found = client.search_runs([experiment.experiment_id], page_token=found.token)
        runs += found
    parents = {run.data.tags.get(_PARENT) for run in runs}
    rows = [_row(run) for run in runs if run.info.run_id not in parents]
    if not rows:
        msg = f"experiment {tracking.experiment!r} in {tracking.uri} has no run yet"
        raise UserError(msg)
    return sorted(rows, key=lambda row: (row.dice is None, -(row.dice or 0.0), row.name))


def study_part(tracking: TrackingConfig, rows: Sequence[RunRow]) -> tuple[dict[str, bytes], str]:
    """Pictures of the experiment's last study, if its file is still there, and some sentences."""
    from ossnet.distributed.tuning.storage import SETTINGS
    from ossnet.distributed.tuning.warm_start import find_study

    study = find_study(tracking)
    if study is None:
        return {}, str(ComputeCost.of(rows, refused=0))
    return study_summary(study, rows, budget_gib=study.user_attrs.get(SETTINGS, {}).get("budget_gib"))


def study_summary(
    study: "TuningStudy", rows: Sequence[RunRow], *, budget_gib: float | None
) -> tuple[dict[str, bytes], str]:
    """Pictures of a study and sentences on what fitted and what it cost."""
    from ossnet.distributed.reports.figures import study_pictures
    from ossnet.distributed.tuning.trial_counts import feasible_fraction

    refused = len(study.seen()) - len(study.started())
    note = f"{feasible_fraction(study)} {ComputeCost.of(rows, refused=refused)}"
    return study_pictures(study, budget_gib=budget_gib), note


def varying(rows: Sequence[RunRow]) -> list[str]:
    """The parameters to tell runs apart by: those their spaces decided, else those in which they differ."""
    decided = {path for row in rows for path in row.varied}
    names = decided or {name for row in rows for name in row.params} - _NAMED
    return sorted(name for name in names if len({row.params.get(name) for row in rows}) > 1)


def show(rows: Sequence[RunRow]) -> None:
    """Print the runs as a table."""
    params = varying(rows)[:_SHOWN]
    columns = (*_COLUMNS, *(name.partition(".")[2] for name in params))
    cells = ((*row.cells, *(row.params.get(name, "") for name in params)) for row in rows)
    print_table(columns, cells, left=len(columns))


def write(
    rows: Sequence[RunRow],
    output: Path,
    *,
    title: str,
    pictures: Mapping[str, bytes] | None = None,
    note: str = "",
) -> dict[str, Path]:
    """Write `runs.csv`, `memory.png` and `report.html` (which holds all pictures); their paths by kind.

    Args:
        pictures: further ones by name, as PNG.
        note: a sentence for the head of the page.
    """
    files = {
        "table": output / "runs.csv",
        "figure": output / "memory.png",
        "page": output / "report.html",
    }
    header, lines = [*_COLUMNS, *varying(rows)], [_line(row, varying(rows)) for row in rows]
    table = io.StringIO(newline="")
    csv.writer(table).writerows([header, *lines])
    atomic_write(files["table"], table.getvalue())
    picture = draw(rows, title=title)
    atomic_write(files["figure"], picture)
    for name, further in (pictures or {}).items():
        files[name] = output / f"{name}.png"
        atomic_write(files[name], further)
    shown = {_TITLES[name]: further for name, further in (pictures or {}).items()}
    shown = shown if "front" in (pictures or {}) else {"Dice against peak memory": picture, **shown}
    atomic_write(files["page"], _page(title, note, header, lines, shown))
    return files


def draw(rows: Sequence[RunRow], *, title: str) -> bytes:
    """Dice against peak memory, a color a network, as PNG; runs stopped early are hollow."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for network in sorted({row.network for row in rows}):
        color = axes.plot([], [], "o", label=network)[0].get_color()
        for row in rows:
            if row.network == network and row.dice is not None and row.memory_gib is not None:
                face = color if row.status == "finished" else "none"
                axes.plot(row.memory_gib, row.dice, "o", color=color, markerfacecolor=face)
    axes.set(xscale="log", xlabel="peak memory of a training step (GiB)", ylabel="Dice (validation)")
    for ticks in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        ticks(FuncFormatter(lambda value, _: f"{value:.2g}"))
    axes.set_title(f"{title} (hollow: stopped before the end)")
    axes.grid(alpha=0.3)
    axes.legend()
    return png_bytes(figure)


def _row(run: "Run") -> RunRow:
    metrics, tags = run.data.metrics, run.data.tags
    status = str(run.info.status).lower()
    if INFEASIBLE in tags:
        status = f"over budget ({tags[INFEASIBLE]})"
    elif status == "killed":
        reason = tags.get(STOPPED, "killed")
        status = STOPPED_EARLY if reason == EARLY else reason
    return RunRow(
        name=run.info.run_name or run.info.run_id,
        network=tags.get("network", "unknown"),
        status=status,
        dice=metrics.get(VAL_DICE),
        memory_gib=metrics.get(MEMORY),
        step_s=metrics.get(STEP_TIME),
        case_s=metrics.get(CASE_TIME),
        elapsed_s=metrics.get(ELAPSED),
        gpu_hours=metrics.get(GPU_HOURS),
        epoch=metrics.get(EPOCH),
        params=run.data.params,
        varied=tuple(filter(None, tags.get(VARIED, "").split(","))),
    )


def _line(row: RunRow, params: Sequence[str]) -> list[Any]:
    return [row.name, row.status, *row.numbers, *(row.params.get(name) for name in params)]


def _page(
    title: str,
    note: str,
    header: Sequence[str],
    lines: Sequence[Sequence[Any]],
    pictures: Mapping[str, bytes],
) -> str:
    def cells(values: Sequence[Any], tag: str) -> str:
        texts = (f"{value:.4g}" if isinstance(value, float) else str(value or "") for value in values)
        return "<tr>" + "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts) + "</tr>"

    body = "\n".join([cells(header, "th"), *(cells(line, "td") for line in lines)])
    images = "".join(
        f"<h2>{html.escape(name)}</h2>\n"
        f"<img alt='{html.escape(name)}' src='data:image/png;base64,{base64.b64encode(picture).decode()}'>\n"
        for name, picture in pictures.items()
    )
    return (
        f"<!doctype html><meta charset=utf-8><title>{html.escape(title)}</title><style>{_STYLE}</style>\n"
        f"<h1>{html.escape(title)}</h1>\n"
        f"<p>{html.escape(note)}</p>\n{images}"
        f"<table>{body}</table>\n"
    )
