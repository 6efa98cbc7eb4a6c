"""The figures of a study: the Pareto front of Dice against cost, parameter importances, learning curves."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ossnet.distributed._optuna import FIXED_PARAMS
from ossnet.distributed.tuning.config import OBJECTIVES
from ossnet.distributed.tuning.result import FrontMember, dice_of
from ossnet.distributed.tuning.storage import METRICS, NETWORK_NAME, is_feasible
from ossnet.metric_names import CASE_MEDIAN, CASE_TIME
from ossnet.output.figure import pareto, plain_text, png_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from optuna import Study
    from optuna.trial import FrozenTrial

    from ossnet.distributed.tuning.storage import TuningStudy

_MIN_FINISHED = 4  # trials that importances can be estimated from
_ALWAYS = {"memory", "seconds"}  # costs that every study measures


def study_figures(study: "TuningStudy") -> dict[str, bytes]:
    """Figures as PNG by name: of those there are, the ones that the study has enough trials for."""
    finished, importances = finished_trials(study), dice_importances(study)
    figures = {"front": _front(study, finished, stopped_trials(study))} if finished else {}
    figures["curves"] = _curves(study.get_trials(deepcopy=False))
    if importances:
        figures["importances"] = _draw_importances(importances)
    return figures


def drawn_costs(study: "TuningStudy") -> list[str]:
    """The costs that Dice is drawn against, by the names of their objectives."""
    drawn = {*_ALWAYS, *study.objectives, *study.limits}
    return [name for name, each in OBJECTIVES.items() if each.direction == "minimize" and name in drawn]


def cost_of(trial: "FrozenTrial", name: str) -> float | None:
    """A trial's cost; None where it is not known."""
    metrics, metric = trial.user_attrs.get(METRICS, {}), OBJECTIVES[name].metric
    if metric == CASE_MEDIAN:  # a study of an earlier version has the mean only
        return metrics.get(metric, metrics.get(CASE_TIME))
    return metrics.get(metric)


def finished_trials(study: "Study") -> list["FrozenTrial"]:
    """The trials that came to their end within the budget; not copied, only to read."""
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return list(filter(is_feasible, trials))


def stopped_trials(study: "Study") -> list["FrozenTrial"]:
    """Those that were validated, kept to the budget and were stopped."""
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False, states=(TrialState.PRUNED,))
    return [trial for trial in trials if trial.intermediate_values and is_feasible(trial)]


def dice_importances(study: "Study") -> dict[str, float]:
    """The fraction of the variance of Dice by parameter, the largest first; empty of too few trials."""
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    finished = finished_trials(study)
    varied = {name for trial in finished for name in trial.params}
    spread = len({dice_of(trial) for trial in finished}) > 1
    if len(finished) < _MIN_FINISHED or not varied or not spread:
        return {}
    found: dict[str, float] = get_param_importances(
        study, evaluator=FanovaImportanceEvaluator(seed=0), target=lambda trial: trial.values[0]
    )
    return found


def _front(
    study: "TuningStudy", finished: Sequence["FrozenTrial"], stopped: Sequence["FrozenTrial"]
) -> bytes:
    """Dice against each cost; with several objectives a star marks what is on the front of all of them."""
    costs, limits = drawn_costs(study), study.limits
    on_front = {member.number for member in FrontMember.of_study(study)}
    figure = _figure(width=4.5 * len(costs), height=5.5)
    networks = sorted({network_of(trial) for trial in [*finished, *stopped]})
    colors = {network: f"C{position}" for position, network in enumerate(networks)}
    for axes, cost in zip(figure.subplots(1, len(costs), sharey=True), costs, strict=True):
        if cost in limits:
            axes.axvline(limits[cost], color="red", linestyle="--")
        points = _points(finished, cost)
        for trial, point in [*points, *_points(stopped, cost)]:
            _mark(axes, trial, point, colors[network_of(trial)])
            if trial.number in on_front:
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
    if limits:
        left.plot([], [], "--", color="red", label="limit")
    if on_front:
        left.plot([], [], "*", color="black", label="on the front of all objectives")
    figure.legend(loc="outside lower center", ncols=4, fontsize="small")
    return png_bytes(figure)


def _points(trials: Sequence["FrozenTrial"], cost: str) -> list[tuple["FrozenTrial", tuple[float, float]]]:
    costs = [(trial, cost_of(trial, cost)) for trial in trials]
    return [(trial, (float(known), dice_of(trial))) for trial, known in costs if known]


def _mark(axes: "Axes", trial: "FrozenTrial", point: tuple[float, float], color: str) -> None:
    """Draw a trial: hollow where it was stopped, with a ring where the space evaluates it first."""
    from optuna.trial import TrialState

    face = color if trial.state == TrialState.COMPLETE else "none"
    axes.plot(*point, _shape(network_of(trial)), color=color, markerfacecolor=face)
    if FIXED_PARAMS in trial.system_attrs:
        axes.plot(*point, "o", color="black", markersize=12, markerfacecolor="none")


def _shape(network: str) -> str:
    return "s" if "unet" in network else "o"


def network_of(trial: "FrozenTrial") -> str:
    """The name of a trial's network."""
    return str(trial.user_attrs.get(NETWORK_NAME, "unknown"))


def _curves(trials: Sequence["FrozenTrial"]) -> bytes:
    from matplotlib.ticker import MaxNLocator
    from optuna.trial import TrialState

    figure = _figure(width=7)
    axes = figure.subplots()
    for trial in trials:
        if trial.intermediate_values:
            epochs = sorted(trial.intermediate_values)
            color = "tab:blue" if trial.state == TrialState.COMPLETE else "tab:gray"
            axes.plot(epochs, [trial.intermediate_values[at] for at in epochs], ".-", color=color, alpha=0.7)
    axes.set(xlabel="epoch", ylabel="Dice (validation)", title="blue: finished; gray: stopped")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    return png_bytes(figure)


def _draw_importances(importances: dict[str, float]) -> bytes:
    figure = _figure(width=7, height=1 + len(importances) / 3)
    axes = figure.subplots()
    names = list(reversed(importances))
    axes.barh([plain_text(name) for name in names], [importances[name] for name in names])
    axes.set(xlabel="fraction of the variance of Dice (fANOVA)", xlim=(0, 1))
    return png_bytes(figure)


def _figure(*, width: float, height: float = 4.5) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")
