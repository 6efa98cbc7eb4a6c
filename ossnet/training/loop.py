"""The training loop: given batches, a way to validate and a reporter, and nothing of where they come from."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ossnet.memory import track_peak
from ossnet.metric_names import (
    CASE_TIME,
    CUT_SHORT,
    ELAPSED,
    EPOCH,
    FINAL,
    PREDICTED,
    SHARE,
    STEP_TIME,
    VAL_DICE,
    WORKER_TIME,
)
from ossnet.output.duration import format_duration
from ossnet.sampling.batch import Batch
from ossnet.sampling.sampler import volumes_of
from ossnet.training.checkpoint_files import Interim
from ossnet.training.clock import Clock, Pace, Until
from ossnet.training.collectives import (
    broadcast,
    is_ddp,
    max_over_ranks,
    mean_over_ranks,
    rank,
    unwrap_ddp,
    world_size,
)
from ossnet.training.config import LossConfig, OptimizerConfig, TrainingConfig
from ossnet.training.optimizer import Optimizer, set_lr, state_tensors
from ossnet.training.parts import BatchParts
from ossnet.training.reporting import Reporter, TrainState
from ossnet.training.step import accumulated_step
from ossnet.training.step_time import least_step_s


@dataclass
class Trainer:
    """A training run of a network; `fit` performs it."""

    network: nn.Module
    optimizer: Optimizer
    config: TrainingConfig
    loss: LossConfig
    optimizer_config: OptimizerConfig
    device: torch.device
    predicted_gib: float
    """The predicted peak of a step in GiB, reported next to the measured one."""
    next_batch: Callable[[Batch], list[torch.Tensor]]
    """Tensors in the place of those that another thread makes beside a step, where they are not measured."""
    first_step: Callable[[int], int]
    """The step at which an epoch begins, counted from 0."""
    validate: Callable[[Until | None, int | None], dict[str, float]]
    """Metrics on so many cases (None: all) of the validation split, as far as time allows (None: on all of
    them); none where not even one is scored."""
    validation_cases: int
    """Cases that this process validates."""
    save: Callable[[Path, Mapping[str, Any]], None]
    """Write a checkpoint with this state to this folder."""
    reporter: Reporter
    interim: Interim | None = None
    """Saves checkpoints between two reports, on rank 0; None: there are none."""
    deadline: float | None = None
    """Unix time by which the run has to have ended."""
    now: Callable[[], float] = time.monotonic
    """The clock, in seconds, of the run's time."""
    measured: Callable[[float], None] = lambda _: None
    """Called with the measured peak of a step in GiB, once; it may raise to end the run."""
    prepared_s: float = 0.0
    """What the run has taken in this session before `fit`."""
    count_lost: Callable[[], dict[str, float]] = dict
    """Called after each epoch on every rank: metrics of the cases that could not be read."""
    peak: dict[str, float] | None = None
    _expectation_is_known: bool = False

    @property
    def peak_gib(self) -> float | None:
        """The measured peak, once there is one."""
        return None if self.peak is None else self.peak["memory/peak_allocated_gib"]

    def fit(self, batches: Iterator[Batch], progress: TrainState) -> dict[str, float]:
        """Train from `progress` to the end, on batches that are on the network's device; the last metrics.

        Raises:
            FloatingPointError: the loss is not finite; names the step and its cases.
        """
        clock = Clock(
            self.config,
            elapsed_s=progress.elapsed_s + self.prepared_s,
            cases=self.validation_cases,
            deadline=self.deadline,
            pace=Pace(progress.step_s, progress.case_s),
            done=progress.epoch / self.config.epochs,
            now=self.now,
        )
        if progress.step and (self._share(progress, clock) >= 1 or broadcast(clock.must_end())):
            # it had ended, and was lost before all knew
            metrics = self._validate(progress, clock) | self._place(progress, clock, final=True)
            self.reporter.epoch(metrics, None)
            return metrics
        metrics, final = {}, False
        while not final:
            if not clock.timed:
                set_lr(self.optimizer, self._share(progress, clock), self.optimizer_config)
            metrics, progress, final, validate = self._train(batches, progress, clock)
            if validate:
                metrics |= self._validate(progress, clock)
            progress = self._timed(progress, clock)
            metrics |= self.count_lost() | self._place(progress, clock, final=final)
            self._report(metrics, progress, clock, final=final)
        return metrics

    def _share(self, progress: TrainState, clock: Clock) -> float:
        """The share of the run done, by epochs or by time, whichever is more; the same on every rank."""
        return max(progress.epoch / self.config.epochs, broadcast(clock.share) if clock.timed else 0.0)

    def _timed(self, progress: TrainState, clock: Clock) -> TrainState:
        elapsed, pace = broadcast((clock.elapsed, clock.pace))
        return progress.at(elapsed, pace, workers=world_size())

    def _train(
        self, batches: Iterator[Batch], progress: TrainState, clock: Clock
    ) -> tuple[dict[str, float], TrainState, bool, bool]:
        """Take steps until something is to be reported: an epoch, a validation or the end.

        Returns:
            The metrics of these steps, where the run is, whether it ends, and whether it is to be validated.
        """
        self.network.train()
        parts, steps, losses, took = self._parts(batches), 0, 0.0, 0.0
        while True:
            self._check_first_step(parts.begin_step(), clock)
            if clock.timed:
                set_lr(self.optimizer, self._share(progress, clock), self.optimizer_config)
            began = self.now()
            waited = parts.waits_s[-1]
            loss = self._step(parts, progress.step + 1)
            stepped = self.now() - began
            clock.step(stepped + waited)
            took += stepped + waited
            losses += loss
            steps += 1
            progress = replace(progress, step=progress.step + 1)
            if rank() == 0:
                self.reporter.step({"loss/train": loss} | self._expected(progress, clock), progress.step)
            whole = progress.step == self.first_step(progress.epoch + 1)
            if whole:
                progress = replace(progress, epoch=progress.epoch + 1)
            final, validate, report = self._pause(progress, clock, whole=whole)
            if final or validate or report:
                break
            self._save_interim(progress, clock)
        metrics = {
            "loss/train_epoch": losses / steps,
            STEP_TIME: took / steps,
            "time/data_wait_fraction": sum(parts.waits_s) / took,
            "time/first_batch_s": parts.waits_s[0],
            "throughput/points_per_s": parts.points * self.config.batch_size / parts.volumes / took,
            PREDICTED: self.predicted_gib,
            **(self.peak or {}),
        }
        return metrics, progress, final, validate

    def _pause(self, progress: TrainState, clock: Clock, *, whole: bool) -> tuple[bool, bool, bool]:
        """Whether the run ends here, whether it is validated, and whether the steps so far are reported."""
        if broadcast(clock.must_measure()) if self._limited else False:
            self._measure_case(clock)
        done = progress.epoch >= self.config.epochs
        if not self._limited:
            every = whole and progress.epoch % self.config.validate_every == 0
            return done, done or every, whole
        final, report = broadcast((clock.must_end(), whole and clock.report_due()))
        final = final or done
        if not clock.timed:
            return final, final or (whole and progress.epoch % self.config.validate_every == 0), whole
        due = broadcast(clock.validation_due(self._share(progress, clock), run_s=self._run_s(clock)))
        return final, final or due, report

    @property
    def _limited(self) -> bool:
        return self.config.max_time_s is not None or self.deadline is not None

    def _run_s(self, clock: Clock) -> float:
        """What all epochs take, as far as is known."""
        return self.first_step(self.config.epochs) * (clock.pace.step_s or float("inf"))

    def _check_first_step(self, batch: Batch, clock: Clock) -> None:
        """Reject a run whose first step would take longer than the run may."""
        if clock.ends_at is None or clock.pace.step_s is not None:
            return
        least = least_step_s(
            unwrap_ddp(self.network),
            batch,
            self.loss,
            precision=self.config.precision,
            room_s=clock.remaining_s - clock.closing_s,
            now=self.now,
        )
        least = broadcast(least)
        if least is not None:
            raise clock.too_short(f"a step of {format_duration(least)}", 2 * least)

    def _measure_case(self, clock: Clock) -> None:
        """Score one case, so that the time for validation can be set aside.

        Raises:
            UserError: there is not enough time for another one.
        """
        until = clock.measure_until
        waited_s = until.first - self.now()
        metrics = self.validate(until, 1)
        if broadcast(CASE_TIME not in metrics and self.now() > until.first):
            raise clock.too_short(f"a case that takes more than {format_duration(waited_s)}")
        clock.measured(metrics.get(CASE_TIME, 0.0))  # the first case may be one that cannot be read

    def _validate(self, progress: TrainState, clock: Clock) -> dict[str, float]:
        metrics = self.validate(clock.validate_until, None)
        clock.validated(metrics.get(CASE_TIME), progress.epoch / self.config.epochs)
        return metrics

    def _expected(self, progress: TrainState, clock: Clock) -> dict[str, float]:
        """What steps, epochs and validations take, once that is known; once a session."""
        if self._expectation_is_known or not clock.settled:
            return {}
        self._expectation_is_known = True
        return clock.expected(progress.step, all_steps=self.first_step(self.config.epochs))

    def _parts(self, batches: Iterator[Batch]) -> BatchParts:
        volumes = volumes_of(rank(), batch_size=self.config.batch_size, world_size=world_size())
        return BatchParts(batches, volumes=volumes, device=self.device)

    def _step(self, parts: BatchParts, step: int) -> float:
        """Take an optimizer step; the process's second one (after warm-up, or its only one) is measured as
        well."""
        if self.peak is None and (self._has_stepped() or self.first_step(self.config.epochs) == 1):
            kept = [*self.network.parameters(), *self.network.buffers(), *state_tensors(self.optimizer)]
            kept += self.next_batch(parts.first)  # but not the first part, which goes when it has been used
            with track_peak(self.device, resident=[*kept, *parts.first.tensors()]) as tracked:
                loss = self._optimize(parts)
            memory = tracked.memory
            found = {
                "memory/peak_allocated_gib": memory.allocated_gib,
                "memory/peak_reserved_gib": memory.reserved_gib,
                "memory/allocator_retries": float(memory.retries),
                "memory/allocator_out_of_memory": float(memory.out_of_memory),
            }
            self.peak = {name: max_over_ranks(value, self.device) for name, value in found.items()}
            self.measured(self.peak["memory/peak_allocated_gib"])
        else:
            loss = self._optimize(parts)
        value = mean_over_ranks(loss)
        if value != value or abs(value) == float("inf"):
            cases = ", ".join(parts.cases)
            msg = f"the loss is {value} at step {step}, cases {cases}: lower the learning rate"
            raise FloatingPointError(msg)
        return value

    def _has_stepped(self) -> bool:
        """Whether this process has taken a step: then the optimizer's state and the gradients are there."""
        return any(parameter.grad is not None for parameter in self.network.parameters())

    def _optimize(self, parts: BatchParts) -> torch.Tensor:
        return accumulated_step(
            self.network,
            self.optimizer,
            parts.of_step(),
            self.loss,
            volumes=parts.volumes,
            mean_volumes=self.config.batch_size / world_size(),
            precision=self.config.precision,
            keep_gradients=is_ddp(self.network),
        )

    def _report(self, metrics: dict[str, float], progress: TrainState, clock: Clock, *, final: bool) -> None:
        clock.reported()
        due = final or clock.timed or progress.epoch % self.config.checkpoint_every == 0
        if not due or rank() != 0:
            self.reporter.epoch(metrics, None)
            return
        began = self.now()
        aside = Path(tempfile.mkdtemp(prefix="ossnet-checkpoint-"))
        try:
            self.save(aside / "checkpoint", self._state(progress, metrics.get(VAL_DICE)))
            self.reporter.epoch(metrics, aside / "checkpoint")
        finally:
            shutil.rmtree(aside)
        clock.saved(self.now() - began)
        if self.interim is not None:
            self.interim.saved(self.now() - began)

    def _save_interim(self, progress: TrainState, clock: Clock) -> None:
        """Save a checkpoint where one is due; the other ranks wait for this one at the next step."""
        if self.interim is not None and rank() == 0 and self.interim.is_due():
            now = progress.at(clock.elapsed, clock.pace, workers=world_size())
            self.interim.write(lambda folder: self.save(folder, self._state(now, None)))

    def _state(self, progress: TrainState, dice: float | None) -> dict[str, Any]:
        return {"progress": asdict(progress), "optimizer": self.optimizer.state_dict(), "dice": dice}

    def _place(self, progress: TrainState, clock: Clock, *, final: bool) -> dict[str, float]:
        first, end = self.first_step(progress.epoch), self.first_step(progress.epoch + 1)
        part = (progress.step - first) / (end - first)
        return {
            EPOCH: progress.epoch + round(part, 3),
            "step": float(progress.step),
            FINAL: float(final),
            CUT_SHORT: float(final and progress.epoch < self.config.epochs and clock.cut_short),
            SHARE: 1.0 if final else self._share(progress, clock),
            ELAPSED: progress.elapsed_s,
            WORKER_TIME: progress.worker_s,
        }
