"""The figures of a study: the Pareto front of Dice against cost, parameter importances, learning curves."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ossnet.distributed._optuna import FIXED_PARAMS
from ossnet.distributed.tuning.config import OBJECTIVES
from ossnet.distributed.tuning.result import FrontMember, dice_of
from ossnet.distributed.tuning.storage import METRICS, NETWORK_NAME, is_feasible
from ossnet.metric_names import CASE_MEDIAN, CASE_TIME
from ossnet.output.figure import plain_text, png_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from optuna.trial import FrozenTrial

    from ossnet.distributed.tuning.storage import TuningStudy

_MIN_FINISHED = 4  # trials that importances can be estimated from
_COSTS = ("memory", "inference-memory", "seconds")
_ALWAYS = {"memory", "seconds"}  # that every study measures


def study_figures(study: "TuningStudy") -> dict[str, bytes]:
    """Figures as PNG by name: of those there are, the ones that the study has enough trials for."""
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False)
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE and is_feasible(trial)]
    stopped = [each for each in trials if each.state == TrialState.PRUNED and each.intermediate_values]
    figures = {}
    if finished:
        limits = study.limits
        costs = [each for each in _COSTS if each in {*_ALWAYS, *study.objectives, *limits}]
        front = {member.number for member in FrontMember.of_study(study)}
        figures["front"] = _front(finished, list(filter(is_feasible, stopped)), costs, limits, front)
    figures["curves"] = _curves(trials)
    varied = {name for trial in finished for name in trial.params}
    spread = len({dice_of(trial) for trial in finished}) > 1
    if len(finished) >= _MIN_FINISHED and varied and spread:
        figures["importances"] = _importances(study)
    return figures


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """The positions of the pairs (cost, Dice) that no other pair dominates, the cheapest first."""
    front, best = list[int](), float("-inf")
    for position in sorted(range(len(points)), key=lambda each: (points[each][0], -points[each][1])):
        if points[position][1] > best:
            front.append(position)
            best = points[position][1]
    return front


def _front(
    finished: Sequence["FrozenTrial"],
    stopped: Sequence["FrozenTrial"],
    costs: Sequence[str],
    limits: Mapping[str, float],
    front_of_all: set[int],
) -> bytes:
    """Dice against each cost.

    Args:
        front_of_all: numbers of the trials on the Pareto front over all objectives, where there are several.
    """
    figure = _figure(width=4.5 * len(costs), height=5.5)
    networks = sorted({_network(trial) for trial in [*finished, *stopped]})
    colors = {network: f"C{position}" for position, network in enumerate(networks)}
    for axes, cost in zip(figure.subplots(1, len(costs), sharey=True), costs, strict=True):
        if cost in limits:
            axes.axvline(limits[cost], color="red", linestyle="--", label="limit")
        points = _points(finished, cost)
        for trial, point in [*points, *_points(stopped, cost)]:
            _mark(axes, trial, point, colors[_network(trial)])
            if trial.number in front_of_all:
                axes.plot(*point, "*", color="black", markersize=6)
        front = [points[position][1] for position in pareto([point for _, point in points])]
        right = axes.get_xlim()[1]
        x, y = zip(*front, (right, front[-1][1]), strict=True) if front else ((), ())
        axes.step(x, y, where="post", color="black", zorder=1)
        axes.set_xlim(right=right)
        axes.set(xlabel=OBJECTIVES[cost].label)
        axes.grid(alpha=0.3)
    left = figure.axes[0]
    left.set_ylabel("Dice (validation)")
    for network, color in colors.items():
        left.plot([], [], _shape(network), color=color, label=network)
    left.plot([], [], "o", color="black", markerfacecolor="none", label="stopped early")
    left.plot(
        [], [], "o", color="black", markersize=12, markerfacecolor="none", label="evaluated first (presets)"
    )
    left.plot([], [], color="black", label="Pareto front")
    if front_of_all:
        left.plot([], [], "*", color="black", label="on the front of all objectives")
    figure.legend(loc="outside lower center", ncols=4, fontsize="small")
    return png_bytes(figure)


def _points(trials: Sequence["FrozenTrial"], cost: str) -> list[tuple["FrozenTrial", tuple[float, float]]]:
    costs = [(trial, _cost(trial, cost)) for trial in trials]
    return [(trial, (float(known), dice_of(trial))) for trial, known in costs if known]


def _cost(trial: "FrozenTrial", name: str) -> float | None:
    metrics, metric = trial.user_attrs.get(METRICS, {}), OBJECTIVES[name].metric
    if metric == CASE_MEDIAN:  # a study of an earlier version has the mean only
        return metrics.get(metric, metrics.get(CASE_TIME))
    return metrics.get(metric)


def _mark(axes: "Axes", trial: "FrozenTrial", point: tuple[float, float], color: str) -> None:
    """Draw a trial: hollow where it was stopped, with a ring where the space evaluates it first."""
    from optuna.trial import TrialState

    face = color if trial.state == TrialState.COMPLETE else "none"
    axes.plot(*point, _shape(_network(trial)), color=color, markerfacecolor=face)
    if FIXED_PARAMS in trial.system_attrs:
        axes.plot(*point, "o", color="black", markersize=12, markerfacecolor="none")


def _shape(network: str) -> str:
    return "s" if network.startswith("unet") else "o"


def _network(trial: "FrozenTrial") -> str:
    return str(trial.user_attrs.get(NETWORK_NAME, "unknown"))


def _curves(trials: Sequence["FrozenTrial"]) -> bytes:
    from optuna.trial import TrialState

    figure = _figure(width=7)
    axes = figure.subplots()
    for trial in trials:
        if trial.intermediate_values:
            epochs = sorted(trial.intermediate_values)
            color = "tab:blue" if trial.state == TrialState.COMPLETE else "tab:gray"
            axes.plot(epochs, [trial.intermediate_values[at] for at in epochs], ".-", color=color, alpha=0.7)
    axes.set(xlabel="epoch", ylabel="Dice (validation)", title="blue: finished; gray: stopped")
    axes.grid(alpha=0.3)
    return png_bytes(figure)


def _importances(study: "TuningStudy") -> bytes:
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    importances = get_param_importances(
        study, evaluator=FanovaImportanceEvaluator(seed=0), target=lambda trial: trial.values[0]
    )
    figure = _figure(width=7, height=1 + len(importances) / 3)
    axes = figure.subplots()
    names = list(reversed(importances))
    axes.barh([plain_text(name) for name in names], [importances[name] for name in names])
    axes.set(xlabel="fraction of the variance of Dice (fANOVA)", xlim=(0, 1))
    return png_bytes(figure)


def _figure(*, width: float, height: float = 4.5) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")
