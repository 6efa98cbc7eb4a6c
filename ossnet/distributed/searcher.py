"""Optuna behind Ray Tune, told the truth: stopped trials are PRUNED, errors FAIL, steps are epochs."""

from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState
from ray.tune.search.optuna import OptunaSearch

from ossnet.config import Config
from ossnet.data import Store
from ossnet.distributed.names import EPOCH, FINAL, INFEASIBLE, MEMORY, MISTAKE, STEP_TIME
from ossnet.distributed.space import NETWORK, Space, configure

_NOTED = (MEMORY, STEP_TIME)


class StudySearch(OptunaSearch):
    """Suggests whole configurations. Its study is kept in a SQLite file that optuna-dashboard opens."""

    def __init__(
        self, space: Space, *, base: Config, store: Store, database: Path, name: str, metric: str, seed: int
    ) -> None:
        self._base, self._store_root = base, store.root
        self._reported: dict[str, int] = {}
        super().__init__(
            space=space,
            metric=metric,
            mode="max",
            sampler=optuna.samplers.TPESampler(seed=seed),
            storage=optuna.storages.RDBStorage(f"sqlite:///{database}"),
            study_name=name,
        )
        for point in space.first:
            self._ot_study.enqueue_trial(point, skip_if_exists=True)

    @property
    def study(self) -> optuna.Study:
        """The Optuna study."""
        return self._ot_study

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """The next trial: its configuration as JSON, Optuna's number and parameters, the paths decided."""
        if trial_id not in self._ot_trials:
            self._ot_trials[trial_id] = self._ot_study.ask()
        trial = self._ot_trials[trial_id]
        changes = self._space(trial)
        config = configure(self._base, changes, Store.open(self._store_root))
        trial.set_user_attr("trial_id", trial_id)
        return {
            "config": config.to_json(),
            "number": trial.number,
            "params": trial.params,
            "varied": [path for path in changes if path != NETWORK],
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Report an epoch that validated."""
        epoch = int(result.get(EPOCH, 0))
        if self.metric in result and epoch > self._reported.get(trial_id, 0):
            self._ot_trials[trial_id].report(result[self.metric], epoch)
            self._reported[trial_id] = epoch

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the study how a trial ended; the first telling counts."""
        if trial_id in self._completed_trials or trial_id not in self._ot_trials:
            return
        self._completed_trials.add(trial_id)
        trial = self._ot_trials[trial_id]
        result = result or {}
        if error or MISTAKE in result:
            if INFEASIBLE in result:
                trial.set_user_attr(INFEASIBLE, result[INFEASIBLE])
            self._ot_study.tell(trial, state=TrialState.FAIL)
            return
        self.on_trial_result(trial_id, result)
        for name in _NOTED:
            if name in result:
                trial.set_user_attr(name, result[name])
        if result.get(FINAL):
            self._ot_study.tell(trial, result[self.metric])
        else:  # Optuna takes the last intermediate value for the trial's
            self._ot_study.tell(trial, state=TrialState.PRUNED)

    def settle(self) -> None:
        """End the trials that a time limit or an interruption cut off: Ray Tune tells nobody of them."""
        for trial_id in self._ot_trials:
            self.on_trial_complete(trial_id)
