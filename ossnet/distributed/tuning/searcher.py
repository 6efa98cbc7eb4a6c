"""Optuna behind Ray Tune: what fits is suggested, and the study is told how every trial truly ended."""

import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState
from ray.tune.search import Searcher

from ossnet.config import Config
from ossnet.data import Store
from ossnet.distributed.cluster.oom_patch import HOST_MEMORY, HostOOMMonitor
from ossnet.distributed.tuning.checkpoints import latest_checkpoint
from ossnet.distributed.tuning.config import OptimizationConfig
from ossnet.distributed.tuning.search_space import NETWORK, Space, configure
from ossnet.distributed.tuning.storage import (
    ERROR,
    METRICS,
    NETWORK_NAME,
    REPEATED,
    SEEDS,
    TuningStudy,
    report,
    set_constraint,
)
from ossnet.metric_names import (
    EPOCH,
    FINAL,
    INFEASIBLE,
    MEMORY,
    MISTAKE,
    OUT_OF_MEMORY,
    PREDICTED,
    STEP_TIME,
    VAL_DICE,
)
from ossnet.planning.estimator import PeakEstimator

logger = logging.getLogger(__name__)


_NOTED = (MEMORY, STEP_TIME)
_REFUSALS = 500  # suggestions in a row that do not fit before the search is called over
_REPEATS = (
    10  # of what was tried before, until the sampler looks everywhere; five times as many end the search
)
_LEAST_GIB = 1e-3  # by which a trial without memory misses at least: Optuna holds zero for feasible


@dataclass
class SeedRun:
    """One training of a suggestion: with its only seed, or one of several."""

    trial: optuna.Trial
    seed: int
    metrics: dict[str, float] = field(default_factory=dict)
    reported: int = 0


class StudySearch(Searcher):
    """Suggests whole configurations. Its study is kept in a SQLite file that optuna-dashboard opens.

    All that it knows it can read there, so a search that was killed goes on by making it anew.
    """

    def __init__(
        self,
        space: Space,
        *,
        base: Config,
        store: Store,
        notebook: TuningStudy,
        goals: OptimizationConfig,
        trials: int,
        concurrent: int,
        forecast: PeakEstimator,
        kills: HostOOMMonitor,
        output: Path,
        capacity_gib: float | None = None,
    ) -> None:
        super().__init__(metric=VAL_DICE, mode="max")
        self._space, self._base, self._store_root = space, base, store.root
        self._goals, self._trials, self._concurrent = goals, trials, concurrent
        limits = [each for each in (goals.budget_gib, capacity_gib) if each is not None]
        self._limit_gib = min(limits, default=None)
        self._forecast, self._kills = forecast, kills
        self._output = output
        self.study = notebook
        self._live: dict[str, SeedRun] = {}
        self._suggested: dict[str, dict[str, Any]] = {}
        if not notebook.seen():
            for point in space.first:
                notebook.enqueue_trial(point, skip_if_exists=True)
        self._started = len(notebook.started())
        self._waiting: deque[SeedRun] = deque()
        for trial in notebook.unfinished():
            self._resume(trial)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next training: its configuration as JSON, Optuna's number and parameters, the paths decided."""
        if trial_id in self._suggested:
            return self._suggested[trial_id]
        if len(self._live) >= self._concurrent:
            return None
        if not self._waiting:
            if self._started >= self._trials:
                return None if self._live else Searcher.FINISHED  # a running one may ask for more seeds
            fitting = self._ask_feasible()
            if fitting is None:
                self._trials = self._started
                return None if self._live else Searcher.FINISHED
            self._started += 1
            self._waiting.append(SeedRun(fitting, 0))
        member = self._waiting.popleft()
        self._live[trial_id] = member
        self._suggested = {trial_id: self._trial_spec(member)}
        return self._suggested[trial_id]

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Note an epoch; the study gets those of the first seed that validated."""
        member = self._live.get(trial_id)
        if member is None:
            return
        member.metrics |= {name: float(value) for name, value in result.items() if _is_metric(name, value)}
        for name in _NOTED:
            if name in member.metrics and name not in member.trial.user_attrs:
                member.trial.set_user_attr(name, member.metrics[name])
        epoch = int(result.get(EPOCH, 0))
        if VAL_DICE in result and member.seed == 0 and epoch > member.reported:
            report(member.trial, float(result[VAL_DICE]), epoch)
            member.reported = epoch

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the study how a training ended; the first telling counts."""
        result = result or {}
        self.on_trial_result(trial_id, result)
        member = self._live.pop(trial_id, None)
        if member is None or self._is_finished(member):
            return
        if OUT_OF_MEMORY in result:
            member.metrics[MEMORY] = float(result[OUT_OF_MEMORY])
            member.trial.set_user_attr(MEMORY, member.metrics[MEMORY])
        peak = member.metrics.get(MEMORY)
        member.trial.set_user_attr(METRICS, member.metrics)
        if OUT_OF_MEMORY in result:
            self._tell_infeasible(member.trial, "out of memory", float(result[OUT_OF_MEMORY]))
        elif error and trial_id in self._kills:
            expected = member.trial.user_attrs.get(PREDICTED, 0.0)
            self._tell_infeasible(member.trial, HOST_MEMORY, expected if peak is None else peak)
        elif error or MISTAKE in result:
            self._tell_failed(member, str(result.get(MISTAKE, "its process was lost too often")))
        elif peak is not None and self._goals.budget_gib is not None and peak > self._goals.budget_gib:
            self._tell_infeasible(member.trial, "measured", peak)
        elif result.get(FINAL):
            self._complete_seed(member)
        else:
            self._tell_pruned(member)

    def settle(self) -> None:
        """End the trials that a time limit or an interruption cut off: Ray Tune tells nobody of them."""
        for trial_id in list(self._live):
            self.on_trial_complete(trial_id)
        while self._waiting:
            member = self._waiting.popleft()
            if not self._is_finished(member):
                self._tell_pruned(member)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: all is in the study's file."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: a new searcher reads the study's file."""

    def _ask_feasible(self) -> optuna.Trial | None:
        """A new suggestion that is predicted to fit; what does not is told to the sampler and replaced."""
        repeats = 0
        for _ in range(_REFUSALS):
            seen = self.study.seen()
            even = self.study.known() < self._goals.start or repeats > _REPEATS
            self.study.sampler = self._goals.build_sampler(
                seed=self._base.training.seed, asked=len(seen), even=even
            )
            trial = self.study.ask()
            if self._is_repeated(trial):
                repeats += 1
            elif self._is_feasible(trial):
                return trial
            if repeats > _REPEATS * 5:
                logger.info("every suggestion has been tried: no further trial starts")
                return None
        logger.info(f"{_REFUSALS} suggestions in a row need too much memory: no further trial starts")
        return None

    def _is_repeated(self, trial: optuna.Trial) -> bool:
        """Whether a suggestion was tried before; then it ends, and samplers pass it over."""
        self._space(trial)
        before = self.study.tried(trial)
        if before is None:
            return False
        trial.set_user_attr(REPEATED, before)
        self.study.tell(trial, state=TrialState.FAIL)
        return True

    def _is_feasible(self, trial: optuna.Trial) -> bool:
        """Whether a suggestion is predicted to fit; one that is not is told so."""
        config, _ = self._configuration(trial)
        trial.set_user_attr(NETWORK_NAME, config.model.name)
        if self._limit_gib is None:
            return True
        predicted = self._forecast.gib(config)
        trial.set_user_attr(PREDICTED, predicted)
        expected = predicted * self._calibration_ratio()
        if expected > self._limit_gib:
            self._tell_infeasible(trial, "predicted", expected)
            return False
        return True

    def _calibration_ratio(self) -> float:
        """By how much measured peaks pass predicted ones; a single outlier does not close the whole space."""
        ratios = [
            trial.user_attrs[MEMORY] / trial.user_attrs[PREDICTED]
            for trial in self.study.started()
            if trial.user_attrs.keys() >= {MEMORY, PREDICTED}
            and trial.user_attrs.get(INFEASIBLE) != "out of memory"
        ]
        return max(1.0, float(np.percentile(ratios, 75))) if ratios else 1.0

    def _resume(self, trial: optuna.Trial) -> None:
        """Take up a trial that was under way when the study was left."""
        attributes = trial.user_attrs
        examined = PREDICTED in attributes or (self._limit_gib is None and NETWORK_NAME in attributes)
        if not examined and (self._is_repeated(trial) or not self._is_feasible(trial)):
            self._started -= 1
            return
        if SEEDS not in attributes:
            known = {name: attributes[name] for name in _NOTED if name in attributes}
            told = max(self.study.trials[trial.number].intermediate_values, default=0)
            self._waiting.append(SeedRun(trial, 0, known, told))
            return
        left = [seed for seed in range(self._goals.seeds) if str(seed) not in attributes[SEEDS]]
        self._waiting.extend(SeedRun(trial, seed) for seed in left)

    def _configuration(self, trial: optuna.Trial) -> tuple[Config, dict[str, Any]]:
        changes = self._space(trial)
        return configure(self._base, changes, Store.open(self._store_root)), changes

    def _trial_spec(self, member: SeedRun) -> dict[str, Any]:
        config, changes = self._configuration(member.trial)
        number = member.trial.number
        run = self.study.run_id(number, member.seed)
        member.trial.set_user_attr("trial_id", run)
        known = latest_checkpoint(self._output, number, member.seed, run)
        predicted = member.trial.user_attrs.get(PREDICTED)
        seeded = config.replace({"training.seed": config.training.seed + member.seed})
        return {
            "config": seeded.to_json(),
            "run": run,
            "number": number,
            "seed": member.seed,
            "seeds": self._goals.seeds,
            "params": member.trial.params,
            "varied": [path for path in changes if path != NETWORK],
            "predicted_gib": predicted,
            "expected_gib": None if predicted is None else predicted * self._calibration_ratio(),
            "resume_from": None if known is None else str(known),
        }

    def _complete_seed(self, member: SeedRun) -> None:
        """One training came to its end: ask for the other seeds, or tell what all came to."""
        ended = member.trial.user_attrs.get(SEEDS, {}) | {str(member.seed): member.metrics}
        member.trial.set_user_attr(SEEDS, ended)
        if len(ended) >= self._goals.seeds:
            self._tell_complete(member.trial, ended)
        elif member.seed == 0:
            self._waiting.extend(SeedRun(member.trial, seed) for seed in range(1, self._goals.seeds))

    def _tell_pruned(self, member: SeedRun) -> None:
        """A training was stopped. Optuna takes the last intermediate value for the trial's."""
        ended = member.trial.user_attrs.get(SEEDS)
        if ended:
            self._tell_complete(member.trial, ended)
            return
        set_constraint(member.trial, self._violation(member.metrics.get(MEMORY)))
        self.study.tell(member.trial, state=TrialState.PRUNED)

    def _tell_complete(self, trial: optuna.Trial, ended: Mapping[str, Mapping[str, float]]) -> None:
        means = {
            name: fmean(each[name] for each in ended.values() if name in each)
            for name in {name for each in ended.values() for name in each}
        }
        peaks = [each[MEMORY] for each in ended.values() if MEMORY in each]
        peak = max(peaks, default=0.0)
        trial.set_user_attr(METRICS, means | ({MEMORY: peak} if peaks else {}))
        set_constraint(trial, self._violation(peak if peaks else None))
        self.study.tell(trial, self._goals.values(means[VAL_DICE], peak))

    def _tell_failed(self, member: SeedRun, reason: str) -> None:
        member.trial.set_user_attr(ERROR, reason)
        self.study.tell(member.trial, state=TrialState.FAIL)

    def _tell_infeasible(self, trial: optuna.Trial, how: str, peak_gib: float) -> None:
        """Pruned; but a sampler that learns from values only is told the worst Dice there is."""
        trial.set_user_attr(INFEASIBLE, how)
        margin = self._violation(peak_gib)
        set_constraint(trial, max(margin, _LEAST_GIB))
        if self._goals.ignores_pruned:
            self.study.tell(trial, self._goals.values(0.0, peak_gib))
        else:
            self.study.tell(trial, state=TrialState.PRUNED)

    def _violation(self, peak_gib: float | None) -> float:
        """By how much a peak passes the budget; less than nothing where there is room."""
        if self._limit_gib is None or peak_gib is None:
            return 0.0
        return peak_gib - self._limit_gib

    def _is_finished(self, member: SeedRun) -> bool:
        """Whether the trial has ended already, as when another of its seeds failed."""
        trials = self.study.get_trials(deepcopy=False)
        return trials[member.trial.number].state.is_finished()


def _is_metric(name: str, value: Any) -> bool:
    return "/" in name and not name.startswith("config/") and isinstance(value, int | float)
