"""Finding what fits a memory budget where hardly anything does."""

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tuning_study import make_spec

from ossnet.config import Config
from ossnet.data import Store
from ossnet.distributed.cluster.resources import TrialPlacement, WorkerResources
from ossnet.distributed.tuning.config import OptimizationConfig
from ossnet.distributed.tuning.feasibility import estimate_feasibility
from ossnet.distributed.tuning.monitor import TrialMonitor
from ossnet.distributed.tuning.search_space import Space, sample_points
from ossnet.distributed.tuning.searcher import StudySearch
from ossnet.distributed.tuning.storage import TuningStudy
from ossnet.distributed.tuning.trial import TrialSpec
from ossnet.errors import UserError
from ossnet.metric_names import MEMORY, PREDICTED
from ossnet.models import OccupancyConfig
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


class FormulaEstimator(PeakEstimator):
    """Peaks by a formula of an occupancy network's parts, in microseconds: for studies of large spaces."""

    def gib(self, config: Config) -> float:
        """Weights, gradients and the optimizer's state, and what the encoder and the decoder keep."""
        model, shape = config.model, config.sampling.working_shape
        assert isinstance(model, OccupancyConfig)
        assert shape is not None
        channels, width, blocks = model.encoder_channels, model.decoder_width, model.decoder_blocks
        weights = (
            27 * sum(a * b for a, b in zip((1, *channels), channels, strict=False)) + 4 * blocks * width**2
        )
        encoder = math.prod(shape) * sum(each / 8**level for level, each in enumerate(channels))
        decoder = config.sampling.points * width * (6 * blocks + 4)
        return (16 * weights + 4 * config.training.batch_size * (3 * encoder + decoder)) / 2**30


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Space:
    path = tmp_path_factory.mktemp("space") / "wide.py"
    path.write_text(WIDE)
    return Space(path)


@pytest.fixture(scope="module")
def budget_for(wide: Space, planner: Planner) -> Callable[[float], float]:
    """The budget that a share of the space meets by the formula, of many random configurations."""
    pool = sample_points(wide, count=1000, seed=7)
    peaks = [FormulaEstimator().gib(planner.resolve(changes=changes).config) for _, changes in pool]
    return lambda share: float(np.quantile(peaks, share))


@pytest.fixture
def starting(tiny: Config, store: Store, tmp_path: Path) -> Callable[..., TuningStudy]:
    """Start trials of a study one after the other until it ends; each comes to a result at once."""

    def start(space: Space, budget: float, estimator: PeakEstimator, *, trials: int = 8) -> TuningStudy:
        output = tmp_path / f"{space.path.stem}-{budget:.6g}"
        output.mkdir()
        spec = make_spec(
            output,
            space.path.read_text(),
            tiny,
            store,
            space=space,  # which has drawn its random points
            output=output,
            trials=trials,
            optimization=OptimizationConfig(budget_gib=budget),
        )
        study = TuningStudy.open_or_create(spec.database, spec.name, spec.optimization)
        placement = TrialPlacement(workers=1, resources=WorkerResources(1), concurrent=1)
        search = StudySearch(
            spec, study, TrialMonitor(budget_gib=budget), placement=placement, estimator=estimator
        )
        for number in range(trials):
            found = search.suggest(str(number))
            if not isinstance(found, dict):
                break
            trial = TrialSpec.from_dict(found)
            assert trial.predicted_gib == estimator.gib(Config.from_json(trial.config_json))
            assert trial.predicted_gib <= budget
            ended = {"epoch": 1.0, "final": 1.0, MEMORY: trial.predicted_gib, "dice/val": 0.1 * number}
            search.on_trial_complete(str(number), ended)
        return study

    return start


def exact_predictions(study: TuningStudy) -> int:
    return sum(PREDICTED in trial.user_attrs for trial in study.trials)


@pytest.mark.parametrize(("share", "trials", "most"), [(0.05, 8, 30), (0.003, 24, 100)])
def test_trials_start_after_few_exact_predictions(
    share: float,
    trials: int,
    most: int,
    wide: Space,
    budget_for: Callable[[float], float],
    starting: Callable[..., TuningStudy],
) -> None:
    """The first eight fill the space, those after them come from the sampler."""
    study = starting(wide, budget_for(share), FormulaEstimator(), trials=trials)
    assert len(study.started_trials()) == trials
    assert exact_predictions(study) <= most


@pytest.mark.slow
def test_trials_start_where_few_fit_by_exact_predictions(
    wide: Space, planner: Planner, starting: Callable[..., TuningStudy]
) -> None:
    study = starting(wide, exact_share_of(wide, planner, 0.003), PeakEstimator())
    assert len(study.started_trials()) == 8
    assert exact_predictions(study) <= 60


def exact_share_of(space: Space, planner: Planner, share: float) -> float:
    """The budget that a share of the space meets, by exact predictions of what seems smallest."""
    pool = [changes for _, changes in sample_points(space, count=2048, seed=11)]
    rank, surrogate, exact = round(share * len(pool)), PeakSurrogate(), dict[int, float]()
    places = np.arange(32)
    for _ in range(4):
        for place in map(int, places):
            exact[place] = planner.estimator.gib(planner.resolve(changes=pool[place]).config)
            surrogate.add(pool[place], exact[place])
        places = np.argsort(surrogate.estimate(pool).center)[: rank + 4]
    return sorted(exact.values())[rank - 1]


def test_the_same_seed_gives_the_same_study(
    wide: Space, budget_for: Callable[[float], float], starting: Callable[..., TuningStudy]
) -> None:
    budget = budget_for(0.05)
    same = Space(shutil.copy(wide.path, wide.path.with_name("same.py")))
    one, again = (starting(space, budget, FormulaEstimator(), trials=4) for space in (wide, same))
    assert [(each.params, each.state) for each in one.trials] == [
        (each.params, each.state) for each in again.trials
    ]


def test_a_study_ends_where_the_rest_of_a_space_is_too_large(
    tmp_path: Path, planner: Planner, starting: Callable[..., TuningStudy], caplog: pytest.LogCaptureFixture
) -> None:
    space = written(
        tmp_path,
        "return {'model.decoder_width': 2 ** trial.suggest_int('width', 2, 9), "
        "'model.decoder_blocks': trial.suggest_int('blocks', 1, 4)}",
    )
    smallest = planner.resolve(changes={"model.decoder_width": 4, "model.decoder_blocks": 1}).config
    with caplog.at_level("INFO"):
        study = starting(space, FormulaEstimator().gib(smallest), FormulaEstimator())
    assert [trial.params for trial in study.started_trials()] == [{"width": 2, "blocks": 1}]
    assert "nothing else fits 0.00" in caplog.text
    assert len(study.trials) <= 32  # the space has no more points


def test_a_study_ends_where_nothing_fits(
    wide: Space,
    budget_for: Callable[[float], float],
    starting: Callable[..., TuningStudy],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level("INFO"):
        study = starting(wide, budget_for(0.0) / 3, FormulaEstimator())
    assert "nothing else fits" in caplog.text
    assert not study.started_trials()
    assert 14 <= exact_predictions(study) <= 100  # it neither gives up at once nor goes on for ever


def test_a_space_that_fits_nowhere_names_what_would_do(
    tiny: Config, store: Store, planner: Planner, tmp_path: Path
) -> None:
    space = written(
        tmp_path, "return {'model.decoder_width': trial.suggest_categorical('width', [4, 8, 16])}"
    )
    needed = PeakEstimator().gib(tiny.replace({"model.decoder_width": 4}).resolve_for(store))
    line = rf"none, the smallest \(oss-net-c\) .* at {needed:.3g} GiB.* give --"
    with pytest.raises(UserError, match=line):
        estimate_feasibility(space, planner, budget_gib=needed / 2)


def test_a_space_of_which_little_fits_is_not_called_empty(
    wide: Space, planner: Planner, budget_for: Callable[[float], float]
) -> None:
    planner = replace(planner, estimator=FormulaEstimator())
    for share in (0.01, 0.003):
        budget = budget_for(share)
        estimate = estimate_feasibility(wide, planner, budget)
        assert estimate.smallest_gib <= budget
        assert estimate.sampled == 2048
        assert estimate.fraction == pytest.approx(share, abs=0.01)


def test_a_point_of_the_space_that_fits_is_enough(tmp_path: Path, planner: Planner) -> None:
    space = written(
        tmp_path,
        "return {'model.decoder_width': 4 if trial.suggest_float('a', 0, 1) == 0.25 else 512}",
        "POINTS_TO_EVALUATE = [{'a': 0.25}]\n",
    )
    smallest = planner.resolve(changes={"model.decoder_width": 4}).config
    planner, needed = replace(planner, estimator=FormulaEstimator()), FormulaEstimator().gib(smallest)
    estimate = estimate_feasibility(space, planner, needed)
    assert (estimate.smallest_gib, estimate.fraction) == (needed, 0)
    with pytest.raises(UserError, match="none, the smallest"):
        estimate_feasibility(space, planner, needed * 0.99)


def written(folder: Path, line: str, before: str = "") -> Space:
    (folder / "mine.py").write_text(f"{before}def space(trial):\n    {line}\n")
    return Space(folder / "mine.py")
