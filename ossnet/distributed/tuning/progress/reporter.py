"""Reports how a search goes: a line for each training that ends, and what runs, in a table or in lines."""

import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ray.tune import Callback

from ossnet.distributed._ray import last_result
from ossnet.distributed.tuning.callbacks import failure
from ossnet.distributed.tuning.monitor import TrialMonitor
from ossnet.distributed.tuning.progress.table import TrialRow, trial_table
from ossnet.distributed.tuning.result import TrialCounts, refusals_of
from ossnet.distributed.tuning.search_space import short
from ossnet.distributed.tuning.storage import TuningStudy
from ossnet.distributed.tuning.trial import TrialEnd
from ossnet.metric_names import ELAPSED, EPOCH, MEMORY, SHARE, VAL_DICE
from ossnet.output.duration import format_duration
from ossnet.output.progress import Lines

if TYPE_CHECKING:
    from ray.tune.experiment import Trial
    from rich.console import Console, Group
    from rich.live import Live

logger = logging.getLogger(__name__)

_REDRAW_S = 0.5
_COUNT_S = 5.0  # between two looks into the study's file


class ProgressReporter(Callback):
    """Logs a line for each training that ends; what runs is a table on a terminal, and lines in a log.

    Args:
        trials: configurations that the study tries.
        terminal: where the table is drawn; None: the error stream, if it is a terminal.
    """

    def __init__(
        self,
        study: TuningStudy,
        monitor: TrialMonitor,
        *,
        trials: int,
        terminal: "Console | None" = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._study, self._monitor, self._trials, self._now = study, monitor, trials, now
        self._terminal = terminal
        self._lines = Lines(now=now)
        self._ended = 0
        self._best: dict[str, float] = {}  # Dice of each training
        self._reported: dict[str, Mapping[str, Any]] = {}  # the last result that says how far each is
        self._live: Live | None = None
        self._drawn, self._counted = now() - _REDRAW_S, now() - _COUNT_S
        self._footer: tuple[str, ...] = ()

    def on_trial_result(
        self, iteration: int, trials: list["Trial"], trial: "Trial", result: dict[str, Any], **info: Any
    ) -> None:
        """Remember its best Dice, and how far it is: what ends it may report no more than its reason."""
        if EPOCH in result:
            self._reported[trial.trial_id] = result
        if VAL_DICE in result:
            before = self._best.get(trial.trial_id, 0.0)
            self._best[trial.trial_id] = max(float(result[VAL_DICE]), before)

    def on_step_end(self, iteration: int, trials: list["Trial"], **info: Any) -> None:
        """Show what runs: called ten times a second, whether anything happened or not."""
        running = [each for each in trials if each.status == each.RUNNING]
        if self._terminal is not None or sys.stderr.isatty():
            self._draw(running)
        elif self._lines.take():
            parts = (f"{self._monitor.spec(each).title} {self._doing(each)}" for each in running)
            since = format_duration(self._monitor.elapsed_s)
            what = "running: " + ", ".join(parts) if running else "no trial runs yet"
            logger.info(f"{what}; for {since} now")

    def on_trial_complete(self, iteration: int, trials: list["Trial"], trial: "Trial", **info: Any) -> None:
        """Log how a trial ended."""
        outcome = self._monitor.end_of(trial)
        if outcome.end is TrialEnd.FAILED:
            self._log(trial, f"failed: {outcome.error}")
            return
        if outcome.end is TrialEnd.NODE_FAILURE:
            self._log(trial, f"will start again: {outcome.error}")
            return
        known = outcome.metrics
        dice = f"Dice {known[VAL_DICE]:.4f}" if VAL_DICE in known else "no Dice yet"
        memory = f"{known[MEMORY]:.3f} GiB" if MEMORY in known else "memory not measured"
        took = f"{known.get(ELAPSED, 0.0):.0f} s"  # Ray's own time goes by a clock that may jump
        names = {TrialEnd.FINISHED: "finished", TrialEnd.TIME_LIMIT: "ended by the study's time"}
        end = names.get(outcome.end, "stopped early")
        end = end if outcome.end.cause is None else f"over budget ({outcome.end.cause})"
        self._log(trial, f"{dice}  {memory}  {self._epoch(trial)}  {took}  {end}")

    def on_trial_error(self, iteration: int, trials: list["Trial"], trial: "Trial", **info: Any) -> None:
        """Log why a trial failed."""
        end = self._monitor.end_of(trial, lost=True).end
        self._log(trial, f"{end.cause or end.value}: {failure(trial)}")

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def table(self, running: Sequence["Trial"]) -> "Group":
        """What runs, with what was refused and why below it."""
        if self._now() - self._counted >= _COUNT_S:
            self._counted = self._now()
            self._footer = self._refused()
        ended = f"{self._ended} of {self._trials} trials have ended"
        since = format_duration(self._monitor.elapsed_s)
        left = self._monitor.remaining_s
        limit = "" if left is None else f", {format_duration(max(left, 0.0))} left"
        title = f"{ended}, for {since} now{limit}"
        return trial_table([self._row(each) for each in running], title=title, footer=self._footer)

    def _draw(self, running: Sequence["Trial"]) -> None:
        if self._now() - self._drawn < _REDRAW_S:
            return
        self._drawn = self._now()
        if self._live is None:
            from rich.console import Console
            from rich.live import Live

            console = self._terminal or Console(stderr=True)
            self._live = Live(
                console=console, auto_refresh=False, transient=True, redirect_stdout=sys.stdout.isatty()
            )
            self._live.start()
        self._live.update(self.table(running), refresh=True)

    def _refused(self) -> tuple[str, ...]:
        counts = TrialCounts.of(self._study)
        refusals = ", ".join(map(str, refusals_of(self._study)))
        return str(counts), f"refused: {refusals}" if refusals else ""

    def _row(self, trial: "Trial") -> TrialRow:
        spec, metrics = self._monitor.spec(trial), self._monitor.metrics(trial.trial_id)
        result = last_result(trial)
        share, took = float(result.get(SHARE, 0.0)), metrics.get(ELAPSED, 0.0)
        return TrialRow(
            number=spec.number,
            network=spec.config.model.name,
            params=_params(spec.varied),
            progress=self._doing(trial),
            dice=metrics.get(VAL_DICE),
            best=self._best.get(trial.trial_id),
            memory_gib=metrics.get(MEMORY, spec.predicted_gib),
            left_s=took * (1 - share) / share if share > 0 else None,
        )

    def _log(self, trial: "Trial", text: str) -> None:
        self._ended += 1
        self._lines.written()
        spec = self._monitor.spec(trial)
        counts = TrialCounts.of(self._study)
        progress = f"{counts.ended}/{self._trials}"
        title = f"{spec.title} ({_params(spec.varied)})" if spec.varied else spec.title
        logger.info(f"{progress}  {title}  {text}  | {counts}{self._remaining(counts)}")

    def _remaining(self, counts: TrialCounts) -> str:
        """Estimate the remaining time from the ended trials."""
        left = self._monitor.elapsed_s / self._ended * max(self._trials - counts.ended, 0)
        limit = self._monitor.remaining_s
        left = left if limit is None else min(left, limit)
        return f", about {left / 60:.0f} min left" if left >= 60 else f", about {max(left, 0):.0f} s left"

    def _doing(self, trial: "Trial") -> str:
        """Its epoch, as of its last report."""
        return self._epoch(trial) if last_result(trial).get(EPOCH) is not None else "no result yet"

    def _epoch(self, trial: "Trial") -> str:
        training = self._monitor.spec(trial).config.training
        result = {**self._reported.get(trial.trial_id, {}), **last_result(trial)}
        if training.max_time_s is not None:
            return f"{100 * result.get(SHARE, 0.0):.0f} % of {format_duration(training.max_time_s)}"
        return f"epoch {int(result.get(EPOCH, 0))}/{training.epochs}"


def _params(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={short(value)}" for name, value in params.items())
