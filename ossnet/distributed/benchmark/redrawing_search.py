"""Ray's Optuna searcher for spaces and trials with constraints, which it has no notion of."""

from typing import Any

import optuna
from optuna.trial import TrialState
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from ossnet.distributed.tuning.search_space import MOST_REDRAWS
from ossnet.distributed.tuning.storage import set_constraints


class RedrawingSearch(OptunaSearch):
    """Draws again what the space forbids by `TrialPruned`, and ends where it forbids too much in a row."""

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next point that the space allows."""
        for _ in range(MOST_REDRAWS):
            try:
                point: dict[str, Any] | None = super().suggest(trial_id)
                return point
            except optuna.TrialPruned:
                self._ot_study.tell(self._ot_trials.pop(trial_id), state=TrialState.PRUNED)
        return Searcher.FINISHED

    def set_violation(self, trial_id: str, violation_gib: float) -> None:
        """Tell Optuna by how many GiB a running trial misses the memory budget; negative where it fits."""
        set_constraints(self._ot_trials[trial_id], {"memory": violation_gib})
