"""The report of an experiment: a table as CSV, figures, and a page that needs no other file."""

import csv
import io
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ossnet.distributed.reports.charts import Charts, run_charts, study_charts
from ossnet.distributed.reports.compute_cost import ComputeCost
from ossnet.distributed.reports.runs import COLUMNS, RunRow, varying
from ossnet.distributed.tracking.client import TrackingConfig
from ossnet.metric_names import CASE_MEDIAN, CASE_TIME, INFERENCE_MEMORY, MEMORY, VAL_DICE
from ossnet.output.atomic_write import atomic_write
from ossnet.output.figure import plain_text, png_bytes
from ossnet.output.html import render_page
from ossnet.planning.refusals import Refusal
from ossnet.training.checkpoint_files import CHECKPOINT

if TYPE_CHECKING:
    from ossnet.distributed.tuning.storage import TuningStudy


@dataclass(frozen=True)
class Winner:
    """The best run, as the page presents it."""

    title: str
    tiles: Mapping[str, str]
    """Its main figures as text, by name."""
    params: Mapping[str, object] = field(default_factory=dict)
    command: str = ""
    """What predicts with it; empty where its checkpoint is not known."""
    trial: int | None = None

    @classmethod
    def of_study(cls, study: "TuningStudy", folder: Path) -> "Winner | None":
        """The best trial, or its last training, whose checkpoint the study keeps; None without a result."""
        from ossnet.distributed.tuning.final.refit import kept_metrics
        from ossnet.distributed.tuning.result import best_of, dice_of
        from ossnet.distributed.tuning.storage import METRICS, NETWORK_NAME
        from ossnet.distributed.tuning.trial import trial_title

        best = best_of(study.started_trials())
        if best is None:
            return None
        metrics = {**best.user_attrs.get(METRICS, {}), VAL_DICE: dice_of(best)}
        title, longer = trial_title(best.number, best.user_attrs[NETWORK_NAME]), kept_metrics(study, folder)
        if longer is not None:
            title, metrics = f"{title}, trained on", metrics | longer
        checkpoint = folder / CHECKPOINT
        return cls(title, _tiles(metrics), best.params, _predict(checkpoint), best.number)

    @classmethod
    def of_runs(cls, rows: Sequence[RunRow]) -> "Winner | None":
        """The run with the best Dice; None where none has one."""
        best = next((row for row in rows if row.dice is not None), None)
        if best is None:
            return None
        known = {VAL_DICE: best.dice, MEMORY: best.memory_gib, CASE_TIME: best.case_s}
        tiles = _tiles({name: value for name, value in known.items() if value is not None})
        command = "" if best.checkpoint is None else _predict(Path(best.checkpoint))
        return cls(best.name, tiles, {"network": best.network}, command, 0)


@dataclass(frozen=True)
class StudySummary:
    """A report's rows about the study behind its runs."""

    note: str
    """Sentences on what fit the budget and on what training cost."""
    figures: Mapping[str, bytes] = field(default_factory=dict)
    """PNG by file name without its suffix."""
    charts: Charts = field(default_factory=Charts)
    winner: Winner | None = None
    refusals: Sequence[Refusal] = ()
    facts: Mapping[str, object] = field(default_factory=dict)
    """What the page's heading says of it."""


def summarize_last_study(tracking: TrackingConfig, rows: Sequence[RunRow]) -> StudySummary:
    """Summarize the experiment's last study; without its file, only what training cost."""
    from ossnet.distributed.tuning.storage import TuningStudy
    from ossnet.distributed.tuning.warm_start import find_study_file

    file = find_study_file(tracking)
    if file is None:
        cost = str(ComputeCost.of(rows, rejected=0))
        return StudySummary(cost, charts=run_charts(rows), winner=Winner.of_runs(rows))
    return summarize_study(TuningStudy.load(file), rows, file.parent)


def summarize_study(study: "TuningStudy", rows: Sequence[RunRow], folder: Path) -> StudySummary:
    """The figures of a study, and sentences on what fit its limits, its front and what training cost.

    Args:
        folder: the study's, which keeps its best checkpoint.
    """
    from ossnet.distributed.reports.figures import study_figures
    from ossnet.distributed.tuning.config import OBJECTIVES
    from ossnet.distributed.tuning.result import (
        FrontMember,
        TrialCounts,
        feasible_fraction,
        refusals_of,
        shown_front,
    )

    cost = ComputeCost.of(rows, rejected=TrialCounts.of(study).rejected)
    front = shown_front(FrontMember.of_study(study))
    limits = {name: f"{limit:.3g}{OBJECTIVES[name].unit}" for name, limit in study.limits.items()}
    budget = {"memory budget": limits.pop("memory", "none")}
    return StudySummary(
        note=f"{feasible_fraction(study)} {f'Pareto front: {front}. ' if front else ''}{cost}",
        figures=study_figures(study),
        charts=study_charts(study),
        winner=Winner.of_study(study, folder),
        refusals=refusals_of(study),
        facts={"study": str(folder), **budget, **{f"limit of {name}": text for name, text in limits.items()}},
    )


def write_files(
    rows: Sequence[RunRow], output: Path, *, title: str, study: StudySummary | None = None
) -> dict[str, Path]:
    """Write `runs.csv`, `memory.png`, the study's figures and `report.html`, which needs none of them.

    Returns:
        Paths by kind: table, figure, page, and one for each figure of the study.
    """
    study = study or StudySummary("", charts=run_charts(rows), winner=Winner.of_runs(rows))
    files = {
        "table": output / "runs.csv",
        "figure": output / "memory.png",
        "page": output / "report.html",
    }
    header, lines = [*COLUMNS, *varying(rows)], [_line(row, varying(rows)) for row in rows]
    table = io.StringIO(newline="")
    csv.writer(table).writerows([header, *lines])
    atomic_write(files["table"], table.getvalue())
    atomic_write(files["figure"], draw(rows, title=title))
    for name, png in study.figures.items():
        files[name] = output / f"{name}.png"
        atomic_write(files[name], png)
    atomic_write(files["page"], _page(rows, header, lines, title, study))
    return files


def _page(
    rows: Sequence[RunRow],
    header: Sequence[str],
    lines: Sequence[Sequence[Any]],
    title: str,
    study: StudySummary,
) -> str:
    stores = sorted({row.store for row in rows if row.store is not None})
    facts = {
        "experiment": title,
        "networks": ", ".join(sorted({row.network for row in rows})),
        "store": ", ".join(stores),
        "split": "validation",
        "runs": len(rows),
        **study.facts,
    }
    alone = all(row.trial is None for row in rows)
    return render_page(
        "runs.html",
        title=title,
        facts=facts,
        note=study.note,
        winner=study.winner,
        charts=study.charts.charts,
        legend=study.charts.legend,
        refused=[[each.network, each.trials, each.least_text, each.option] for each in study.refusals],
        header=header,
        lines=lines,
        trials=[position if alone else row.trial for position, row in enumerate(rows)],
    )


def _tiles(metrics: Mapping[str, float]) -> dict[str, str]:
    """The main figures that there are, as text."""
    formats = {VAL_DICE: ("Dice (validation)", "{:.4f}"), MEMORY: ("GiB at the peak of a step", "{:.3f}")}
    formats |= {INFERENCE_MEMORY: ("GiB to predict a case", "{:.3f}")}
    formats |= {CASE_MEDIAN if CASE_MEDIAN in metrics else CASE_TIME: ("seconds a case", "{:.2g}")}
    return {name: text.format(metrics[key]) for key, (name, text) in formats.items() if key in metrics}


def _predict(checkpoint: Path) -> str:
    if not (checkpoint / "version.json").is_file():
        return ""
    return shlex.join(
        ["ossnet", "predict", "--checkpoint", str(checkpoint), "--input", "SCAN", "--output", "DIR"]
    )


def draw(rows: Sequence[RunRow], *, title: str) -> bytes:
    """Draw Dice against peak memory as PNG, with a color for each network; unfinished runs are hollow."""
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
    axes.set_title(f"{plain_text(title)} (hollow: stopped before the end)")
    axes.grid(alpha=0.3)
    axes.legend()
    return png_bytes(figure)


def _line(row: RunRow, params: Sequence[str]) -> list[Any]:
    return [row.name, row.status, *row.numbers, *(row.params.get(name) for name in params)]
