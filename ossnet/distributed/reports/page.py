"""The report of an experiment: a table as CSV, figures, and a page that holds them all."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ossnet.distributed.reports.compute_cost import ComputeCost
from ossnet.distributed.reports.runs import COLUMNS, RunRow, varying
from ossnet.distributed.tracking.client import TrackingConfig
from ossnet.output.atomic_write import atomic_write
from ossnet.output.figure import plain_text, png_bytes
from ossnet.output.html import render_page

if TYPE_CHECKING:
    from ossnet.distributed.tuning.storage import TuningStudy

_TITLES = {
    "front": "Dice against memory and time",
    "curves": "Learning curves",
    "importances": "What mattered",
}


@dataclass(frozen=True)
class StudySummary:
    """A report's rows about the study behind its runs."""

    note: str
    """Sentences on what fit the budget and on what training cost."""
    figures: Mapping[str, bytes] = field(default_factory=dict)
    """PNG by file name without its suffix."""


def summarize_last_study(tracking: TrackingConfig, rows: Sequence[RunRow]) -> StudySummary:
    """Summarize the experiment's last study; without its file, only what training cost."""
    from ossnet.distributed.tuning.warm_start import find_study

    study = find_study(tracking)
    if study is None:
        return StudySummary(str(ComputeCost.of(rows, rejected=0)))
    return summarize_study(study, rows)


def summarize_study(study: "TuningStudy", rows: Sequence[RunRow]) -> StudySummary:
    """The figures of a study, and sentences on what fit its limits, its front and what training cost."""
    from ossnet.distributed.reports.figures import study_figures
    from ossnet.distributed.tuning.result import FrontMember, TrialCounts, feasible_fraction

    cost = ComputeCost.of(rows, rejected=TrialCounts.of(study).rejected)
    front = "; ".join(map(str, FrontMember.of_study(study)))
    note = f"{feasible_fraction(study)} {f'Pareto front: {front}. ' if front else ''}{cost}"
    return StudySummary(note, study_figures(study))


def write_files(
    rows: Sequence[RunRow], output: Path, *, title: str, study: StudySummary | None = None
) -> dict[str, Path]:
    """Write `runs.csv`, `memory.png`, the study's figures and `report.html`, which holds all figures.

    Returns:
        Paths by kind: table, figure, page, and one for each figure of the study.
    """
    study = study or StudySummary("")
    files = {
        "table": output / "runs.csv",
        "figure": output / "memory.png",
        "page": output / "report.html",
    }
    header, lines = [*COLUMNS, *varying(rows)], [_line(row, varying(rows)) for row in rows]
    table = io.StringIO(newline="")
    csv.writer(table).writerows([header, *lines])
    atomic_write(files["table"], table.getvalue())
    memory = draw(rows, title=title)
    atomic_write(files["figure"], memory)
    for name, png in study.figures.items():
        files[name] = output / f"{name}.png"
        atomic_write(files[name], png)
    figures = {_TITLES[name]: png for name, png in study.figures.items()}
    figures = figures if "front" in study.figures else {"Dice against peak memory": memory, **figures}
    page = render_page("runs.html", title=title, note=study.note, header=header, lines=lines, figures=figures)
    atomic_write(files["page"], page)
    return files


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
