"""Optuna behind Ray Tune: what fits the memory is suggested, and the study learns how every trial ended."""

import logging
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import TrialState
from ray.tune.search import Searcher

from ossnet.config import Config
from ossnet.data import Store
from ossnet.distributed._optuna import set_intermediate_value
from ossnet.distributed.cluster.resources import TrialPlacement
from ossnet.distributed.tuning.config import DEFAULT_TRIALS
from ossnet.distributed.tuning.early_stopping.scheduler import progress_of
from ossnet.distributed.tuning.feasibility import Screen
from ossnet.distributed.tuning.monitor import TrialMonitor
from ossnet.distributed.tuning.outcomes import OutcomeWriter
from ossnet.distributed.tuning.search_space import MOST_REDRAWS, first_points
from ossnet.distributed.tuning.storage import (
    CONFIGURATION,
    FORBIDDEN,
    METRICS,
    NETWORK_NAME,
    REPEATED,
    SEEDS,
    TuningStudy,
    latest_checkpoint,
)
from ossnet.distributed.tuning.trial import TrialEnd, TrialFacts, TrialOutcome, TrialSpec, decide_outcome
from ossnet.errors import UserError
from ossnet.metric_names import CASE_MEDIAN, INFERENCE_MEMORY, MEMORY, PREDICTED, STEP_TIME, VAL_DICE
from ossnet.planning.configure.planner import NETWORK
from ossnet.planning.estimator import PeakEstimator
from ossnet.planning.study_time import most_epochs

if TYPE_CHECKING:
    from ossnet.distributed.tuning.study import StudySpec

logger = logging.getLogger(__name__)


_STORED = (MEMORY, STEP_TIME, CASE_MEDIAN)  # metrics that a trial keeps as attributes while it runs
_REPEATED, _FORBIDDEN, _TOO_LARGE = "tried before", "forbidden by the space", "too large"
_REPEATS = (
    10  # of what was tried before, until the sampler searches everywhere; five times as many end the search
)
_UNLEARNED = 3  # of what the space forbids, until a sampler that does not see them searches everywhere
_MISSES = 4  # suggestions that are too large, until one that is likely to fit comes before the sampler's


@dataclass
class SeedRun:
    """A training of a suggestion with one of its seeds."""

    trial: optuna.Trial
    seed: int
    metrics: dict[str, float] = field(default_factory=dict)
    """Metrics that an earlier session reported."""
    reported: int = 0
    """The last epoch whose Dice the study has."""


class StudySearch(Searcher):
    """Suggests whole configurations. Its study is kept in a SQLite file that optuna-dashboard opens.

    Its whole state can be read there, so a search that was killed is resumed by making it anew.
    """

    def __init__(
        self,
        spec: "StudySpec",
        study: TuningStudy,
        monitor: TrialMonitor,
        *,
        placement: TrialPlacement,
        estimator: PeakEstimator,
    ) -> None:
        super().__init__(metric=VAL_DICE, mode="max")
        self._space, self._base, self._output = spec.space, spec.base, spec.output
        self._store_root = spec.store.root
        self._planner, self._placement = replace(spec.resolving, estimator=estimator), placement
        self._trials = spec.trials or DEFAULT_TRIALS
        capacity_gib = None if placement.sharing is None else placement.sharing.capacity_gib
        limits = [each for each in (spec.optimization.budget_gib, capacity_gib) if each is not None]
        self._limit_gib = min(limits, default=None)
        self._optimization = replace(spec.optimization, budget_gib=self._limit_gib)
        self._writer = OutcomeWriter(study, self._optimization)
        self._estimator, self._monitor = estimator, monitor
        inference_gib = spec.optimization.inference_budget_gib
        self._screened_gib = inference_gib if self._limit_gib is None else self._limit_gib
        weight = 0.0 if inference_gib is None else (self._screened_gib or 0.0) / inference_gib
        self._screen = Screen(spec.space, spec.base.training.seed, inference_weight=weight)
        self.study = study
        self._trial_time = study.trial_time()
        self._live: dict[str, SeedRun] = {}
        self._suggested: dict[str, dict[str, Any]] = {}
        if not study.suggested_trials():
            for point in first_points(spec.space, seed=spec.base.training.seed):
                study.enqueue_trial(point, skip_if_exists=True)
        self._started = len(study.started_trials())
        self._waiting: deque[SeedRun] = deque()
        for trial in study.running_trials():
            self._resume(trial)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The `TrialSpec` of the next training as a dictionary; None while all slots are taken."""
        if trial_id in self._suggested:
            return self._suggested[trial_id]
        if self._placement.is_full(map(self._monitor.expected_gib, self._live)):
            return None
        if not self._monitor.can_start or self._monitor.node_faults.are_everywhere(self._placement):
            return None if self._live else Searcher.FINISHED
        if not self._waiting:
            if self._started >= self._trials:
                return None if self._live else Searcher.FINISHED  # a running one may need more seeds
            fitting = self._ask_feasible()
            if fitting is None:
                self._trials = self._started if self._monitor.can_start else self._trials
                return None if self._live else Searcher.FINISHED
            self._started += 1
            self._waiting.append(SeedRun(fitting, 0))
        seed_run = self._waiting.popleft()
        self._live[trial_id] = seed_run
        spec = self._trial_spec(seed_run)
        inference = {} if spec.inference_gib is None else {INFERENCE_MEMORY: spec.inference_gib}
        self._monitor.add(trial_id, spec, seed_run.metrics | inference)
        self._suggested = {trial_id: spec.to_dict()}
        return self._suggested[trial_id]

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Store an epoch; the study gets those of the first seed that validated."""
        seed_run = self._live.get(trial_id)
        if seed_run is None:
            return
        self._monitor.update(trial_id, result)
        metrics = self._monitor.metrics(trial_id)
        for name in _STORED:
            if name in metrics and name not in seed_run.trial.user_attrs:
                seed_run.trial.set_user_attr(name, metrics[name])
        epoch = progress_of(result, timed=self._trial_time is not None)
        if VAL_DICE in result and seed_run.seed == 0 and epoch > seed_run.reported:
            set_intermediate_value(seed_run.trial, epoch, float(result[VAL_DICE]))
            seed_run.reported = epoch

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the study how a training ended; the first call counts."""
        if trial_id in self._live:
            self.on_trial_result(trial_id, result or {})
            self._end(trial_id, self._monitor.end(trial_id, result or {}, lost=error))

    def finalize(self) -> None:
        """End the trials that a time limit or an interruption cut off: Ray Tune does not report them."""
        for trial_id in list(self._live):
            self._end(trial_id, self._monitor.end(trial_id, {}, cut_off=True))
        while self._waiting:
            seed_run = self._waiting.popleft()
            if not self._is_finished(seed_run):
                self._writer.write(seed_run.trial, self._monitor.cut_off(seed_run.metrics))

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: all is in the study's file."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing: a new searcher reads the study's file."""

    def _end(self, trial_id: str, outcome: TrialOutcome) -> None:
        seed_run = self._live.pop(trial_id)
        if self._is_finished(seed_run):
            return
        trial = seed_run.trial
        if outcome.end is TrialEnd.OUT_OF_MEMORY:
            trial.set_user_attr(MEMORY, outcome.metrics[MEMORY])
        trial.set_user_attr(METRICS, dict(outcome.metrics))
        if outcome.end is TrialEnd.FINISHED:
            self._complete_seed(seed_run, outcome)
        elif outcome.end is TrialEnd.NODE_FAILURE:
            self._waiting.appendleft(replace(seed_run, metrics=dict(outcome.metrics)))
        else:
            self._writer.write(trial, outcome, expected_gib=trial.user_attrs.get(PREDICTED, 0.0))

    def _ask_feasible(self) -> optuna.Trial | None:
        """A new suggestion that is predicted to fit; what does not is ended as infeasible and replaced."""
        redrawn = Counter[str]()
        while self._monitor.can_start:
            startup = self._searches_everywhere(redrawn)
            self.study.sampler = self._optimization.build_sampler(
                seed=self._base.training.seed,
                n_suggested=len(self.study.suggested_trials()),
                startup=startup,
            )
            stuck = redrawn[_TOO_LARGE] >= _MISSES or (startup and self.study.is_mostly_too_large())
            if stuck and not self._enqueue_likely():
                logger.info(f"nothing else fits {self._limits}: no further trial starts")
                return None
            trial = self.study.ask()
            why = self._reject(trial)
            if why is None:
                return trial
            redrawn[why] += 1
            if redrawn[_REPEATED] > _REPEATS * 5:
                logger.info("every suggestion has been tried: no further trial starts")
                return None
            if redrawn[_FORBIDDEN] >= MOST_REDRAWS:
                logger.info(f"the space forbade {MOST_REDRAWS} suggestions: no further trial starts")
                return None
        return None

    def _enqueue_likely(self) -> bool:
        """Have a point that is likely to fit suggested next, once enough is known; False without any."""
        trials, started = self.study.suggested_trials(), self.study.started_trials()
        self._screen.learn(trials)
        if self._screened_gib is None or not self._screen.is_ready or self.study.has_waiting_points():
            return True
        likely = self._screen.propose(
            self._screened_gib / self.study.calibration_ratio(),
            tried=[trial.params for trial in trials],
            started=[trial.params for trial in started],
        )
        if likely is not None:
            self.study.enqueue_trial(likely[0])
        return likely is not None

    @property
    def _limits(self) -> str:
        """What is too large, in words."""
        inference_gib = self._optimization.inference_budget_gib
        limits = {"": self._limit_gib, " in inference": inference_gib}
        return " and ".join(f"{gib:.3g} GiB{where}" for where, gib in limits.items() if gib is not None)

    def _searches_everywhere(self, redrawn: Mapping[str, int]) -> bool:
        """Whether the next suggestion is to fill the space, as little is known or the sampler is stuck."""
        unlearned = redrawn[_FORBIDDEN] if self._optimization.ignores_pruned else 0
        return (
            self.study.n_feasible() < self._optimization.n_startup_trials
            or redrawn[_REPEATED] > _REPEATS
            or unlearned > _UNLEARNED
        )

    def _reject(self, trial: optuna.Trial) -> str | None:
        """Why a suggestion takes no slot; then it ends. None for one that does."""
        if self._is_forbidden(trial):
            return _FORBIDDEN
        if self._is_repeated(trial):
            return _REPEATED
        try:
            return None if self._is_feasible(trial) else _TOO_LARGE
        except UserError as error:  # a combination that is no network, which no random point before had
            self._forbid(trial, str(error))
            return _FORBIDDEN

    def _is_forbidden(self, trial: optuna.Trial) -> bool:
        """Whether the space does not allow a suggestion; then it ends as pruned, for the sampler to learn."""
        try:
            self._space(trial)
        except optuna.TrialPruned as error:
            self._forbid(trial, str(error))
            return True
        return False

    def _forbid(self, trial: optuna.Trial, why: str) -> None:
        trial.set_user_attr(FORBIDDEN, why)
        self.study.tell(trial, state=TrialState.PRUNED)

    def _is_repeated(self, trial: optuna.Trial) -> bool:
        """Whether a suggestion was tried before; then it ends, and samplers ignore it."""
        before = self.study.find_duplicate(trial)
        if before is None:
            return False
        trial.set_user_attr(REPEATED, before)
        self.study.tell(trial, state=TrialState.FAIL)
        return True

    def _is_feasible(self, trial: optuna.Trial) -> bool:
        """Whether a suggestion is predicted to fit; one that is not ends."""
        config = self._configuration(trial, self._space(trial))
        trial.set_user_attr(NETWORK_NAME, config.model.name)
        facts, expected = TrialFacts(limit_gib=self._limit_gib), dict[str, float]()
        if self._limit_gib is not None:
            predicted = self._estimator.gib(config)
            trial.set_user_attr(PREDICTED, predicted)
            expected[MEMORY] = predicted * self.study.calibration_ratio()
            facts = replace(facts, expected_gib=expected[MEMORY])
        outcome = decide_outcome(facts)
        if outcome is None and self._optimization.predicts_inference:
            expected[INFERENCE_MEMORY] = self._estimator.inference_gib(config)
            trial.set_user_attr(INFERENCE_MEMORY, expected[INFERENCE_MEMORY])
            budget_gib = self._optimization.inference_budget_gib
            outcome = decide_outcome(
                replace(facts, inference_gib=expected[INFERENCE_MEMORY], inference_budget_gib=budget_gib)
            )
        if outcome is not None:
            self._writer.write_infeasible(trial, outcome.end, expected)
            return False
        trial.set_user_attr(CONFIGURATION, config.to_json())
        return True

    def _resume(self, trial: optuna.Trial) -> None:
        """Queue a trial that was running when the study was left."""
        attributes = trial.user_attrs
        if CONFIGURATION not in attributes and self._reject(trial) is not None:
            self._started -= 1
            return
        if SEEDS not in attributes:
            known = {name: attributes[name] for name in _STORED if name in attributes}
            reported = max(self.study.trials[trial.number].intermediate_values, default=0)
            self._waiting.append(SeedRun(trial, 0, known, reported))
            return
        left = [seed for seed in range(self._optimization.seeds) if str(seed) not in attributes[SEEDS]]
        self._waiting.extend(SeedRun(trial, seed) for seed in left)

    def _configuration(self, trial: optuna.Trial, changes: Mapping[str, Any]) -> Config:
        """A suggestion's configuration, fitted to the memory there is when it is first resolved."""
        resolved = trial.user_attrs.get(CONFIGURATION)
        if resolved is not None:
            return Config.from_json(resolved)
        planner = self._planner
        if self._limit_gib is not None:
            planner = replace(planner, budget_gib=self._limit_gib / self.study.calibration_ratio())
        return planner.resolve(changes=changes).config

    def _trial_spec(self, seed_run: SeedRun) -> TrialSpec:
        changes = self._space(seed_run.trial)
        config = self._configuration(seed_run.trial, changes)
        number = seed_run.trial.number
        run = self.study.run_id(number, seed_run.seed)
        seed_run.trial.set_user_attr("trial_id", run)
        checkpoint = latest_checkpoint(self._output, number, seed_run.seed, run)
        predicted = seed_run.trial.user_attrs.get(PREDICTED)
        seeded = self._with_time(config, changes).replace(
            {"training.seed": config.training.seed + seed_run.seed}
        )
        limit = self._monitor.time_limit
        return TrialSpec(
            config_json=seeded.to_json(),
            run=run,
            number=number,
            seed=seed_run.seed,
            seeds=self._optimization.seeds,
            params=seed_run.trial.params,
            search_params=tuple(path for path in changes if path != NETWORK),
            predicted_gib=predicted,
            expected_gib=None if predicted is None else predicted * self.study.calibration_ratio(),
            inference_gib=seed_run.trial.user_attrs.get(INFERENCE_MEMORY),
            resume_from=None if checkpoint is None else str(checkpoint),
            deadline=None if limit is None else limit.trials_until,
            avoid=self._monitor.node_faults.avoided,
        )

    def _with_time(self, config: Config, changes: Mapping[str, Any]) -> Config:
        """The configuration with the time that the study gives each trial; what the space decides stays."""
        if self._trial_time is None:
            return config
        epochs = most_epochs(config, Store.open(self._store_root), self._trial_time.trial_s)
        planned = self._trial_time.changes(epochs)
        return config.replace({path: value for path, value in planned.items() if path not in changes})

    def _complete_seed(self, seed_run: SeedRun, outcome: TrialOutcome) -> None:
        """Queue the other seeds of a trial whose first one finished, or report the result of all seeds."""
        ended = seed_run.trial.user_attrs.get(SEEDS, {}) | {str(seed_run.seed): dict(outcome.metrics)}
        seed_run.trial.set_user_attr(SEEDS, ended)
        if len(ended) >= self._optimization.seeds:
            self._writer.write_complete(seed_run.trial, ended)
        elif seed_run.seed == 0:
            self._waiting.extend(SeedRun(seed_run.trial, seed) for seed in range(1, self._optimization.seeds))

    def _is_finished(self, seed_run: SeedRun) -> bool:
        """Whether the trial has ended already, as when another of its seeds failed."""
        trials = self.study.get_trials(deepcopy=False)
        return trials[seed_run.trial.number].state.is_finished()
