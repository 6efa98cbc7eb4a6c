"""Our rules of early stopping beside Optuna's pruners, on the same learning curves, at equal epochs."""

import heapq
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import optuna
import pytest
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, SuccessiveHalvingPruner
from optuna.trial import TrialState

from ossnet.distributed.tuning.config import EarlyStoppingConfig
from ossnet.distributed.tuning.early_stopping.rules import StoppingRule

RUNGS = (1, 2, 4, 8, 16)
EPOCHS = 192  # that a search may train
SEEDS = 60


class Search(Protocol):
    """Decides about trials, whose kind it knows."""

    def start(self) -> Any: ...
    def stops(self, trial: Any, epoch: int, dice: float) -> bool: ...
    def finish(self, trial: Any, dice: float) -> None: ...


class OurSearch:
    def __init__(self, algorithm: Any) -> None:
        config = EarlyStoppingConfig(algorithm=algorithm)
        self._rule = StoppingRule(config, first_rung=RUNGS[0], end=RUNGS[-1], history={})
        self._started = 0

    def start(self) -> int:
        self._started += 1
        return self._started - 1

    def stops(self, trial: int, epoch: int, dice: float) -> bool:
        stop = self._rule.should_stop(trial, epoch, dice)
        self._rule.add(trial, epoch, dice)
        return stop

    def finish(self, trial: int, dice: float) -> None:
        """Nothing has to be known of it."""


class OptunaSearch:
    def __init__(self, pruner: BasePruner, name: str) -> None:
        """Optuna draws the brackets of hyperband by the study's name, so each search has one of its own."""
        sampler = optuna.samplers.RandomSampler(seed=0)
        self._study = optuna.create_study(
            direction="maximize", pruner=pruner, sampler=sampler, study_name=name
        )

    def start(self) -> optuna.Trial:
        return self._study.ask()

    def stops(self, trial: optuna.Trial, epoch: int, dice: float) -> bool:
        trial.report(dice, epoch)
        stop = trial.should_prune()
        if stop:
            self._study.tell(trial, state=TrialState.PRUNED)
        return stop

    def finish(self, trial: optuna.Trial, dice: float) -> None:
        self._study.tell(trial, dice)


def found(search: Search, *, seed: int, crossing: float, slots: int) -> float:
    """The true Dice of the best trial that finished, once all epochs are trained.

    Args:
        crossing: how much trials differ in how fast they learn, by which their curves cross; 0 to 1.
        slots: trials that run at once; each starts another when it ends.
    """
    random = np.random.default_rng(seed)
    last = random.beta(4, 2, EPOCHS)
    pace = np.exp(random.normal(np.log(3), 0.2 + 0.8 * crossing, EPOCHS))
    true = last[:, None] * (1 - np.exp(-np.array(RUNGS) / pace[:, None]))
    seen = np.clip(true + random.normal(0, 0.02, true.shape), 0, 1)
    started = spent = 0
    best = (0.0, 0.0)
    running: list[tuple[float, int, int, Any]] = []  # when it reports, its number, its rung and the trial
    for slot in range(slots):
        heapq.heappush(running, (RUNGS[0] + slot / 100, started, 0, search.start()))
        started += 1
    while running:
        now, number, rung, trial = heapq.heappop(running)
        spent += RUNGS[rung] - (RUNGS[rung - 1] if rung else 0)
        if spent > EPOCHS:
            break
        dice, stop = float(seen[number, rung]), search.stops(trial, RUNGS[rung], float(seen[number, rung]))
        if RUNGS[rung] < RUNGS[-1] and not stop:
            then = now + RUNGS[rung + 1] - RUNGS[rung]
            heapq.heappush(running, (then, number, rung + 1, trial))
            continue
        if not stop:
            best = max(best, (dice, float(true[number, rung])))
            search.finish(trial, dice)
        heapq.heappush(running, (now + RUNGS[0], started, 0, search.start()))
        started += 1
    return best[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "pruner"),
    [
        ("asha", lambda: SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)),
        ("hyperband", lambda: HyperbandPruner(min_resource=1, max_resource=16, reduction_factor=2)),
        ("median", lambda: MedianPruner(n_startup_trials=3)),
    ],
    ids=["asha", "hyperband", "median"],
)
@pytest.mark.parametrize("crossing", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("slots", [2, 8])
def test_we_find_about_what_optunas_pruner_finds(
    algorithm: str, pruner: Callable[[], BasePruner], crossing: float, slots: int
) -> None:
    """Within two hundredths of Dice, in the mean over seeds; `docs/search.md` has the figures of each."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pairs = []
    for seed in range(SEEDS):
        ours, theirs = (
            found(search, seed=seed, crossing=crossing, slots=slots)
            for search in (OurSearch(algorithm), OptunaSearch(pruner(), str(seed)))
        )
        pairs.append((ours, theirs))
    differences = [ours - theirs for ours, theirs in pairs]
    half_width = 1.96 * float(np.std(differences)) / SEEDS**0.5
    ours, theirs = np.mean(pairs, axis=0)
    print(
        f"{algorithm}, {crossing}, {slots}: {ours:.4f} {theirs:.4f}, {ours - theirs:+.4f} +- {half_width:.4f}"
    )
    assert abs(ours - theirs) < 0.02 + half_width


@pytest.mark.parametrize("pruner", [SuccessiveHalvingPruner(), HyperbandPruner(), MedianPruner()])
def test_optunas_pruners_compare_no_trials_of_several_objectives(pruner: BasePruner) -> None:
    """If this fails they can, and may take the place of ours."""
    study = optuna.create_study(directions=["maximize", "minimize"], pruner=pruner)
    trial = study.ask()
    with pytest.raises(NotImplementedError):
        trial.report(0.5, 1)
    with pytest.raises(NotImplementedError):
        trial.should_prune()
