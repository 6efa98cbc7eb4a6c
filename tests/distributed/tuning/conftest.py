"""A search as a driver opens it; nothing is trained."""

from pathlib import Path
from typing import Any

import pytest
from driven_search import SPACE, Opening
from tuning_study import make_spec

from ossnet.config import Config
from ossnet.data import Store
from ossnet.distributed.cluster.resources import TrialPlacement, WorkerResources
from ossnet.distributed.tuning.config import OptimizationConfig
from ossnet.distributed.tuning.monitor import TrialMonitor
from ossnet.distributed.tuning.searcher import StudySearch
from ossnet.distributed.tuning.storage import TuningStudy
from ossnet.planning.estimator import PeakEstimator


@pytest.fixture(scope="session")
def estimator() -> PeakEstimator:
    """Predicts each peak once for all tests of a process."""
    return PeakEstimator()


@pytest.fixture(scope="session")
def budget(estimator: PeakEstimator, tiny: Config, store: Store) -> float:
    """What a width of 16 needs: 32 and 64 do not fit."""
    return estimator.gib(tiny.resolve_for(store))


@pytest.fixture
def opening(estimator: PeakEstimator, tiny: Config, store: Store, tmp_path: Path) -> Opening:
    """Open the study in `tmp_path`, as a new driver does, whatever became of the last one."""

    def make(
        body: str = SPACE, *, trials: int = 20, concurrent: int = 20, **optimization: Any
    ) -> StudySearch:
        chosen = OptimizationConfig(**optimization)
        spec = make_spec(tmp_path, body, tiny, store, output=tmp_path, trials=trials, optimization=chosen)
        return StudySearch(
            spec,
            TuningStudy.open_or_create(spec.database, spec.name, spec.optimization),
            TrialMonitor(budget_gib=chosen.budget_gib, seconds_per_case=chosen.seconds_per_case),
            placement=TrialPlacement(workers=1, resources=WorkerResources(1), concurrent=concurrent),
            estimator=estimator,
        )

    return make


@pytest.fixture
def search(opening: Opening) -> StudySearch:
    return opening()
