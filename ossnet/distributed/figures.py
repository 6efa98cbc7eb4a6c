"""What a study found, in pictures: the front of Dice against cost, what mattered, how trials learned."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ossnet.distributed.names import CASE_TIME, MEMORY
from ossnet.distributed.notebook import METRICS, NETWORK_NAME, feasible
from ossnet.distributed.tally import dice_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from optuna import Study
    from optuna.trial import FrozenTrial

_FIRST = "fixed_params"  # Optuna's mark of a trial whose parameters were given
_FEWEST = 4  # finished trials that importances are worth being estimated from
_COSTS = {MEMORY: "peak memory of a training step (GiB)", CASE_TIME: "seconds a case (validation)"}


def study_pictures(study: "Study", *, budget_gib: float | None) -> dict[str, bytes]:
    """PNG pictures by name, of all that the study has enough trials for."""
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False)
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE and feasible(trial)]
    pictures = {"front": _front(finished, budget_gib)} if finished else {}
    pictures["curves"] = _curves(trials)
    varied = {name for trial in finished for name in trial.params}
    spread = len({dice_of(trial) for trial in finished}) > 1
    if len(finished) >= _FEWEST and varied and spread:
        pictures["importances"] = _importances(study)
    return pictures


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """The positions of (cost, Dice) that none passes in both, from the cheapest on."""
    front, best = list[int](), float("-inf")
    for position in sorted(range(len(points)), key=lambda each: (points[each][0], -points[each][1])):
        if points[position][1] > best:
            front.append(position)
            best = points[position][1]
    return front


def _front(trials: Sequence["FrozenTrial"], budget_gib: float | None) -> bytes:
    figure = _figure(width=11)
    colours = {network: f"C{place}" for place, network in enumerate(sorted(set(map(_network, trials))))}
    for axes, (cost, label) in zip(figure.subplots(1, 2, sharey=True), _COSTS.items(), strict=True):
        known = [trial for trial in trials if trial.user_attrs.get(METRICS, {}).get(cost)]
        points = [(float(trial.user_attrs[METRICS][cost]), dice_of(trial)) for trial in known]
        _scatter(axes, known, points, colours)
        front = [points[position] for position in pareto(points)]
        axes.step(
            [x for x, _ in front], [y for _, y in front], where="post", color="black", label="Pareto front"
        )
        if budget_gib is not None and cost == MEMORY:
            axes.axvline(budget_gib, color="red", linestyle="--", label="budget")
        axes.set(xlabel=label)
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("Dice (validation)")
    named = {
        label: handle
        for axes in figure.axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(named.values(), named.keys(), loc="outside right upper", fontsize="small")
    return _png(figure)


def _scatter(
    axes: "Axes",
    trials: Sequence["FrozenTrial"],
    points: Sequence[tuple[float, float]],
    colours: Mapping[str, str],
) -> None:
    """A colour a network; squares are U-Nets, rings around what the space asks to be tried first."""
    for network, colour in colours.items():
        own = [point for point, trial in zip(points, trials, strict=True) if _network(trial) == network]
        mark = "s" if network.startswith("unet") else "o"
        axes.plot([x for x, _ in own], [y for _, y in own], mark, color=colour, label=network)
    first = [point for point, trial in zip(points, trials, strict=True) if _FIRST in trial.system_attrs]
    if first:
        x, y = zip(*first, strict=True)
        axes.scatter(x, y, s=140, facecolors="none", edgecolors="black", label="tried first (presets)")


def _network(trial: "FrozenTrial") -> str:
    return str(trial.user_attrs.get(NETWORK_NAME, "unknown"))


def _curves(trials: Sequence["FrozenTrial"]) -> bytes:
    from optuna.trial import TrialState

    figure = _figure(width=7)
    axes = figure.subplots()
    for trial in trials:
        if trial.intermediate_values:
            epochs = sorted(trial.intermediate_values)
            colour = "tab:blue" if trial.state == TrialState.COMPLETE else "tab:gray"
            axes.plot(epochs, [trial.intermediate_values[at] for at in epochs], ".-", color=colour, alpha=0.7)
    axes.set(xlabel="epoch", ylabel="Dice (validation)", title="blue: came to the end; grey: stopped")
    axes.grid(alpha=0.3)
    return _png(figure)


def _importances(study: "Study") -> bytes:
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    found = get_param_importances(
        study, evaluator=FanovaImportanceEvaluator(seed=0), target=lambda trial: trial.values[0]
    )
    figure = _figure(width=7)
    axes = figure.subplots()
    names = list(reversed(found))
    axes.barh(names, [found[name] for name in names])
    axes.set(xlabel="share of the variance of Dice (fANOVA)", xlim=(0, 1))
    return _png(figure)


def _figure(*, width: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, 4.5), layout="constrained")


def _png(figure: "Figure") -> bytes:
    sink = io.BytesIO()
    figure.savefig(sink, format="png", dpi=150)
    return sink.getvalue()
