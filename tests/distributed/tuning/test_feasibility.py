"""Finding what fits a memory budget where hardly anything does."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from ossnet.config import Config
from ossnet.data import Store
from ossnet.distributed.cluster.resources import TrialPlacement, WorkerResources
from ossnet.distributed.tracking.client import TrackingConfig
from ossnet.distributed.tuning.config import OptimizationConfig
from ossnet.distributed.tuning.feasibility import estimate_feasibility
from ossnet.distributed.tuning.monitor import TrialMonitor
from ossnet.distributed.tuning.search_space import Space, sample_points
from ossnet.distributed.tuning.searcher import StudySearch
from ossnet.distributed.tuning.storage import TuningStudy
from ossnet.distributed.tuning.study import StudySpec
from ossnet.distributed.tuning.trial import TrialSpec
from ossnet.errors import UserError
from ossnet.metric_names import MEMORY
from ossnet.planning.configure.fingerprint import Fingerprint
from ossnet.planning.configure.planner import Planner
from ossnet.planning.estimator import PeakEstimator
from ossnet.planning.surrogate import PeakSurrogate

WIDE = """
def space(trial):
    levels = trial.suggest_int("levels", 2, 4)
    first = 2 ** trial.suggest_int("log2_first", 2, 6)
    return {
        "model": trial.suggest_categorical("network", ["oss-net-c", "o-net", "feature-query"]),
        "model.encoder_channels": tuple(first * 2**level for level in range(levels)),
        "model.decoder_width": 2 ** trial.suggest_int("log2_width", 4, 9),
        "model.decoder_blocks": trial.suggest_int("decoder_blocks", 1, 6),
        "sampling.points": 2 ** trial.suggest_int("log2_points", 8, 14),
        "training.batch_size": trial.suggest_int("batch_size", 1, 8),
        "optimizer.learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True),
    }
"""


@pytest.fixture
def wide(tmp_path: Path) -> Space:
    (tmp_path / "wide.py").write_text(WIDE)
    return Space(tmp_path / "wide.py")


def resolved(changes: dict[str, Any], tiny: Config, store: Store) -> Config:
    return Planner.around(tiny, Fingerprint.of(store)).resolve(changes=changes).config


def budget_for(space: Space, tiny: Config, store: Store, share: float) -> float:
    """The budget that a share of the space meets, by random configurations and the surrogate's order."""
    pool, estimator = [changes for _, changes in sample_points(space, count=1000, seed=7)], PeakEstimator()
    surrogate, exact = PeakSurrogate(), dict[int, float]()
    for place in range(40):
        exact[place] = estimator.gib(resolved(pool[place], tiny, store))
        surrogate.add(pool[place], exact[place])
    rank = max(1, round(share * len(pool)))
    for _ in range(3):  # the smallest ones by estimates, whose exact peaks refine the estimates
        for place in np.argsort(surrogate.estimate(pool).center)[: rank + 8]:
            if int(place) not in exact:
                exact[int(place)] = estimator.gib(resolved(pool[place], tiny, store))
                surrogate.add(pool[place], exact[int(place)])
    return sorted(exact.values())[rank - 1] * 1.0001


def start_eight(space: Space, tiny: Config, store: Store, output: Path, budget: float) -> tuple[int, float]:
    """The number of exact predictions and the CPU seconds until eight trials have started."""
    spec = StudySpec(
        name="mine",
        space=space,
        base=tiny,
        store=store,
        output=output,
        tracking=TrackingConfig.at(output, "mine"),
        trials=8,
        optimization=OptimizationConfig(budget_gib=budget),
    )
    study = TuningStudy.open_or_create(spec.database, spec.name, spec.optimization)
    search = StudySearch(
        spec,
        study,
        TrialMonitor(budget_gib=budget),
        placement=TrialPlacement(workers=1, resources=WorkerResources(1), concurrent=1),
        estimator=PeakEstimator(),
    )
    began = time.process_time()
    for number in range(8):
        found = search.suggest(str(number))
        assert isinstance(found, dict)
        trial = TrialSpec.from_dict(found)
        assert trial.predicted_gib is not None
        assert trial.predicted_gib <= budget
        ended = {"epoch": 1.0, "final": 1.0, MEMORY: trial.predicted_gib, "dice/val": 0.1 * number}
        search.on_trial_complete(str(number), ended)
    exact = sum("memory/predicted_gib" in trial.user_attrs for trial in study.trials)
    return exact, time.process_time() - began


@pytest.mark.parametrize(
    ("share", "most_s"),
    [
        (0.05, 20.0),
        pytest.param(0.01, 60.0, marks=pytest.mark.slow),
        pytest.param(0.003, 120.0, marks=pytest.mark.slow),
    ],
)
def test_eight_feasible_trials_start_where_few_fit(
    share: float, most_s: float, wide: Space, tiny: Config, store: Store, tmp_path: Path
) -> None:
    budget = budget_for(wide, tiny, store, share)
    exact, took_s = start_eight(wide, tiny, store, tmp_path / "study", budget)
    assert exact < 100
    assert took_s < 4 * most_s  # of an idle core; it may be shared


def test_the_same_seed_gives_the_same_study(wide: Space, tiny: Config, store: Store, tmp_path: Path) -> None:
    narrow = tmp_path / "narrow.py"
    narrow.write_text(WIDE.replace('"oss-net-c", "o-net", ', "").replace("2, 6)", "2, 4)"))
    space, studies = Space(narrow), []
    budget = budget_for(space, tiny, store, 0.1)
    for name in ("one", "other"):
        output = tmp_path / name
        start_eight(space, tiny, store, output, budget)
        studies.append(optuna.load_study(study_name="mine", storage=f"sqlite:///{output / 'study.db'}"))
    one, other = ([(trial.params, trial.state) for trial in study.trials] for study in studies)
    assert one == other


def test_a_space_that_fits_nowhere_names_what_would_do(
    tiny: Config, store: Store, planner: Planner, tmp_path: Path
) -> None:
    (tmp_path / "widths.py").write_text(
        "def space(trial):\n"
        "    return {'model.decoder_width': trial.suggest_categorical('width', [4, 8, 16])}\n"
    )
    space, smallest = Space(tmp_path / "widths.py"), tiny.replace({"model.decoder_width": 4})
    needed = PeakEstimator().gib(smallest.resolve_for(store))
    with pytest.raises(
        UserError, match=rf"none, the smallest \(oss-net-c\) .* at {needed:.3g} GiB.* give --"
    ):
        estimate_feasibility(space, planner, budget_gib=needed / 2)


@pytest.mark.slow
def test_a_space_of_which_little_fits_is_not_called_empty(
    wide: Space, tiny: Config, store: Store, planner: Planner
) -> None:
    budget = budget_for(wide, tiny, store, 0.01)
    estimate = estimate_feasibility(wide, planner, budget)
    assert estimate.smallest_gib <= budget
    assert estimate.sampled > 1000
    assert estimate.fraction == pytest.approx(0.01, abs=0.02)


def test_estimates_are_within_their_bounds(wide: Space, tiny: Config, store: Store) -> None:
    estimator, surrogate = PeakEstimator(), PeakSurrogate()
    pool = [changes for _, changes in sample_points(wide, count=48, seed=3)]
    logs = np.log([estimator.gib(resolved(changes, tiny, store)) for changes in pool])
    for changes, log_gib in zip(pool[:24], logs[:24], strict=True):
        surrogate.add(changes, float(np.exp(log_gib)))
    unseen = surrogate.estimate(pool[24:])
    errors = np.abs(unseen.center - logs[24:]) / unseen.spread
    assert errors.max() < 4
    assert np.abs(unseen.center - logs[24:]).mean() < 0.6  # of a space whose peaks differ by a factor of 100
