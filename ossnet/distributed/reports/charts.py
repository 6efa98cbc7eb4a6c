"""A report's charts of trials and runs; the page's script marks a trial in all of them together."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ossnet.distributed._optuna import FIXED_PARAMS
from ossnet.distributed.reports.figures import (
    cost_of,
    dice_importances,
    drawn_costs,
    finished_trials,
    network_of,
    stopped_trials,
)
from ossnet.distributed.reports.runs import RunRow
from ossnet.distributed.tuning.config import OBJECTIVES
from ossnet.distributed.tuning.result import best_of, dice_of
from ossnet.distributed.tuning.storage import METRICS, TuningStudy
from ossnet.distributed.tuning.trial import trial_title
from ossnet.metric_names import MEMORY
from ossnet.output.charts import (
    Axis,
    Curve,
    TrialMark,
    bars,
    learning_curves,
    parallel_coordinates,
    trade_off,
)
from ossnet.output.charts.scale import number
from ossnet.output.figure import pareto
from ossnet.output.palette import color

if TYPE_CHECKING:
    from markupsafe import Markup
    from optuna.trial import FrozenTrial

_MOST_AXES = 9
_NARROW_PX = 320


@dataclass(frozen=True)
class PageChart:
    """A chart with its heading."""

    name: str
    chart: "Markup"
    note: str = ""
    wide: bool = False

    @property
    def width(self) -> int:
        """Pixels below which a wide one is scrolled."""
        return 2 * _NARROW_PX if self.wide else 0


@dataclass(frozen=True)
class Charts:
    """The charts of a page and the colors in them."""

    charts: tuple[PageChart, ...] = ()
    legend: tuple[tuple[str, str], ...] = ()


def study_charts(study: TuningStudy) -> Charts:
    """The fronts, parallel coordinates, importances and learning curves that a study has trials for."""
    finished, stopped = finished_trials(study), stopped_trials(study)
    trials = [*finished, *stopped]
    if not trials:
        return Charts()
    colors = _colors(map(network_of, trials))
    best = best_of(study.started_trials())
    found = list[PageChart]()
    for cost in drawn_costs(study):
        found += _front(trials, finished, cost, colors, best, study.limits.get(cost))
    found += _curves(study, trials, colors)
    importances = dice_importances(study)
    if importances:
        chart = bars(importances, label="importance of each parameter")
        found.append(PageChart("What mattered", chart, "Fraction of the variance of Dice (fANOVA)."))
    found += _parallel(trials)
    return Charts(tuple(found), tuple((shade, name) for name, shade in colors.items()))


def run_charts(rows: Sequence[RunRow]) -> Charts:
    """Dice against memory of runs that no study joins."""
    drawn = [row for row in rows if row.dice is not None and row.memory_gib is not None]
    if not drawn:
        return Charts()
    colors = _colors(row.network for row in drawn)
    marks = [
        TrialMark(
            position,
            row.memory_gib or 0.0,
            row.dice or 0.0,
            colors[row.network],
            f"{row.name}: Dice {row.dice:.4f}, {row.memory_gib:.3f} GiB, {row.status}",
            row.status == "finished",
            best=position == 0,
        )
        for position, row in enumerate(drawn)
    ]
    front = pareto([(mark.cost, mark.dice) for mark in marks])
    chart = trade_off(marks, front=front, label=OBJECTIVES["memory"].label)
    legend = tuple((shade, name) for name, shade in colors.items())
    return Charts((PageChart("Dice against peak memory", chart),), legend)


def _colors(networks: Iterable[str]) -> dict[str, str]:
    return {network: color(position) for position, network in enumerate(sorted(set(networks)))}


def _title(trial: "FrozenTrial") -> str:
    metrics = trial.user_attrs.get(METRICS, {})
    parts = [f"Dice {dice_of(trial):.4f}"]
    parts += [f"{metrics[MEMORY]:.3f} GiB"] if MEMORY in metrics else []
    seconds = cost_of(trial, "seconds")
    parts += [] if seconds is None else [f"{seconds:.2g} s a case"]
    parts += [f"{name} {_short(value)}" for name, value in trial.params.items()]
    parts += ["as the space begins"] if FIXED_PARAMS in trial.system_attrs else []
    return f"{trial_title(trial.number, network_of(trial))}: {', '.join(parts)}"


def _short(value: object) -> str:
    return number(value) if isinstance(value, float) else str(value)


def _front(
    trials: Sequence["FrozenTrial"],
    finished: Sequence["FrozenTrial"],
    cost: str,
    colors: Mapping[str, str],
    best: "FrozenTrial | None",
    limit: float | None,
) -> list[PageChart]:
    ended = {trial.number for trial in finished}
    costs = {trial.number: cost_of(trial, cost) or 0.0 for trial in trials}
    marks = [
        TrialMark(
            trial.number,
            costs[trial.number],
            dice_of(trial),
            colors[network_of(trial)],
            _title(trial),
            trial.number in ended,
            best=best is not None and trial.number == best.number,
        )
        for trial in trials
        if costs[trial.number] > 0
    ]
    if not marks:
        return []
    whole = [position for position, mark in enumerate(marks) if mark.trial in ended]
    front = [whole[each] for each in pareto([(marks[each].cost, marks[each].dice) for each in whole])]
    what = {"memory": "memory", "inference-memory": "memory of inference", "seconds": "time"}[cost]
    chart = trade_off(marks, front=front, label=OBJECTIVES[cost].label, limit=limit)
    return [PageChart(f"Dice against {what}", chart)]


def _curves(
    study: TuningStudy, trials: Sequence["FrozenTrial"], colors: Mapping[str, str]
) -> list[PageChart]:
    timed = study.trial_time() is not None
    curves = [
        Curve(
            trial.number,
            {at / 10 if timed else at: value for at, value in trial.intermediate_values.items()},
            colors[network_of(trial)],
            trial_title(trial.number, network_of(trial)),
            finished=trial.state.name == "COMPLETE",
        )
        for trial in trials
        if trial.intermediate_values
    ]
    label = "share of the trial's time (%)" if timed else "epoch"
    return [PageChart("Learning curves", learning_curves(curves, label=label))] if curves else []


def _parallel(trials: Sequence["FrozenTrial"]) -> list[PageChart]:
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    varied = [name for name in names if len({trial.params.get(name) for trial in trials}) > 1]
    if len(trials) < 2 or not varied:
        return []
    axes = [Axis("network", {trial.number: network_of(trial) for trial in trials})]
    axes = axes if len(set(axes[0].values.values())) > 1 and "network" not in varied else []
    axes += [
        Axis(
            name,
            {trial.number: _value(trial.params[name]) for trial in trials if name in trial.params},
            log=any(getattr(trial.distributions.get(name), "log", False) for trial in trials),
        )
        for name in varied[:_MOST_AXES]
    ]
    known = {trial.number: trial.user_attrs.get(METRICS, {}).get(MEMORY) for trial in trials}
    axes.append(Axis("GiB", {number: float(value) for number, value in known.items() if value}))
    axes.append(Axis("Dice", {trial.number: dice_of(trial) for trial in trials}))
    chart = parallel_coordinates(axes, {trial.number: _title(trial) for trial in trials})
    note = "A line is a trial: gray of the worst Dice, red of the best. A gap: it has no such parameter."
    return [PageChart("Parameters and what they came to", chart, note, wide=True)]


def _value(value: object) -> float | str:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
