"""The training loop: given batches, a way to validate and a reporter, and nothing of where they come from."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import nn

from ossnet.errors import UserError
from ossnet.memory import track_peak
from ossnet.sampling.batch import Batch
from ossnet.training.collectives import broadcast, max_over_ranks, mean_over_ranks, rank, world_size
from ossnet.training.losses import LossConfig
from ossnet.training.optimizer import Optimizer, OptimizerConfig, set_lr, state_tensors
from ossnet.training.step import accumulated_step


@dataclass(frozen=True)
class TrainingConfig:
    """Options of training: its length, batch size and precision."""

    epochs: int = 50
    """Passes over the training cases (paper: 50)."""
    max_time_s: float | None = None
    """Seconds after which the running epoch is the last one; schedules follow whichever limit is nearer."""
    batch_size: int = 8
    """Volumes a step, over all workers (paper: 8 for BraTS, 4 for LiTS)."""
    accumulation_steps: int = 1
    """Parts of a step's batch that pass through the network one after another: memory for one part only, and
    the same gradients but for batch statistics."""
    steps_per_batch: int = 1
    """Successive steps on the same volumes, each with points of its own, so that a slow disk is read less."""
    loader_threads: int | None = None
    """Threads that read the next steps' cases; nothing: one for each CPU but the network's, 8 at most."""
    device_cache_gib: float = 0.0
    """GiB of the device for volumes that stay there from epoch to epoch, so that they are sent once."""
    seed: int = 0
    """Decides the weights' start, the order of cases and every draw."""
    precision: Literal["float32", "bf16"] = "float32"
    """bf16: matrix products and convolutions in bfloat16."""
    compile: bool = False
    """Have torch's compiler make the arithmetic between an occupancy network's matrix products: faster steps
    after a slow first one. Needs a C++ compiler on CPUs, Triton on GPUs; see docs/compile.md."""
    validate_every: int = 5
    """Epochs between two validations; the last epoch is always validated."""
    validation_cases: int | None = None
    """Validate on the first so many cases of the split only; nothing: on all."""
    fold: int | None = None
    """Fold of the store that validates what the others train; by default its own splits are taken."""
    checkpoint_every: int = 1
    """Epochs between two checkpoints; the last epoch always leaves one."""

    def __post_init__(self) -> None:
        """Reject what would train nothing.

        Raises:
            UserError: names the field.
        """
        counts = ("epochs", "batch_size", "accumulation_steps", "steps_per_batch")
        every = ("validate_every", "checkpoint_every")
        for name in (*counts, *every, *(("loader_threads",) if self.loader_threads is not None else ())):
            if getattr(self, name) < 1:
                raise UserError(name, expected="at least 1", found=str(getattr(self, name)))
        if self.accumulation_steps > self.batch_size:
            raise UserError(
                "accumulation_steps",
                expected=f"at most the {self.batch_size} volumes of a batch",
                found=str(self.accumulation_steps),
            )
        if not 0 <= self.device_cache_gib < float("inf"):
            raise UserError(
                "device_cache_gib", expected="0 or a positive number", found=str(self.device_cache_gib)
            )


class Reporter(Protocol):
    """Receives the metrics of a run."""

    def step(self, metrics: dict[str, float], step: int) -> None:
        """Metrics of one optimizer step, counted from 1; called on rank 0 only."""

    def epoch(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        """Metrics of one epoch; called on every rank. It may raise to end the run.

        Args:
            checkpoint: on rank 0, where there is a new one: a folder to copy from; it goes after the call.
        """


@dataclass(frozen=True)
class TrainState:
    """The progress of a run."""

    epoch: int = 0
    step: int = 0
    elapsed_s: float = 0.0


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
    first_step: Callable[[int], int]
    """The step at which an epoch begins, counted from 0."""
    validate: Callable[[], dict[str, float]]
    save: Callable[[Path, Mapping[str, Any]], None]
    """Write a checkpoint with this state to this folder."""
    reporter: Reporter
    peak: dict[str, float] | None = None

    @property
    def peak_gib(self) -> float | None:
        """The measured peak, once there is one."""
        return None if self.peak is None else self.peak["memory/peak_allocated_gib"]

    def fit(self, batches: Iterator[Batch], progress: TrainState) -> dict[str, float]:
        """Train from `progress` to the end, on batches that are on the network's device; the last metrics.

        Raises:
            FloatingPointError: the loss is not finite; names the step and its cases.
        """
        began = time.monotonic() - progress.elapsed_s
        if self._share(progress) >= 1:  # it had ended, and was lost before all knew
            metrics = self.validate() | _place(progress, final=True)
            self.reporter.epoch(metrics, None)
            return metrics
        metrics = {}
        while progress.epoch < self.config.epochs:
            set_lr(self.optimizer, broadcast(self._share(progress)), self.optimizer_config)
            metrics = self._epoch(batches, progress)
            elapsed = broadcast(time.monotonic() - began)
            progress = TrainState(progress.epoch + 1, self.first_step(progress.epoch + 1), elapsed)
            final = self._share(progress) >= 1
            if final or progress.epoch % self.config.validate_every == 0:
                metrics |= self.validate()
                progress = replace(progress, elapsed_s=broadcast(time.monotonic() - began))
            metrics |= _place(progress, final=final)
            self._report(metrics, progress, final=final)
            if final:
                break
        return metrics

    def _share(self, progress: TrainState) -> float:
        """The share of the run done, by epochs or by time, whichever is more."""
        share = progress.epoch / self.config.epochs
        if self.config.max_time_s is not None:
            share = max(share, progress.elapsed_s / self.config.max_time_s)
        return share

    def _epoch(self, batches: Iterator[Batch], progress: TrainState) -> dict[str, float]:
        self.network.train()
        began = time.monotonic()
        source, losses = _BatchSource(batches, self.config.batch_size // world_size()), 0.0
        steps = range(progress.step + 1, self.first_step(progress.epoch + 1) + 1)
        for step in steps:
            loss = self._step(source, step)
            losses += loss
            if rank() == 0:
                self.reporter.step({"loss/train": loss}, step)
        took = time.monotonic() - began
        return {
            "loss/train_epoch": losses / len(steps),
            "time/step_s": took / len(steps),
            "time/data_wait_fraction": sum(source.waits_s) / took,
            "time/first_batch_s": source.waits_s[0],
            "throughput/points_per_s": source.points * world_size() / took,
            "memory/predicted_gib": self.predicted_gib,
            **(self.peak or {}),
        }

    def _step(self, source: "_BatchSource", step: int) -> float:
        """Take an optimizer step; the process's second one (after warm-up, or its only one) is measured as
        well."""
        parts = source.parts()
        if self.peak is None and (self._warm() or self.first_step(self.config.epochs) == 1):
            first = next(parts)  # held until the end: other parts, as large, are made unseen by the tracker
            kept = [*self.network.parameters(), *self.network.buffers(), *state_tensors(self.optimizer)]
            with track_peak(self.device, resident=[*kept, *first.tensors()]) as tracked:
                loss = self._optimize(chain([first], parts), source.volumes)
            memory = tracked.memory
            found = {
                "memory/peak_allocated_gib": memory.allocated_gib,
                "memory/peak_reserved_gib": memory.reserved_gib,
                "memory/allocator_retries": float(memory.retries),
                "memory/allocator_out_of_memory": float(memory.out_of_memory),
            }
            self.peak = {name: max_over_ranks(value, self.device) for name, value in found.items()}
        else:
            loss = self._optimize(parts, source.volumes)
        value = mean_over_ranks(loss)
        if value != value or abs(value) == float("inf"):
            cases = ", ".join(source.cases)
            msg = f"the loss is {value} at step {step}, cases {cases}: lower the learning rate"
            raise FloatingPointError(msg)
        return value

    def _warm(self) -> bool:
        """Whether the optimizer has made its state, which it does in its first step."""
        return bool(state_tensors(self.optimizer))

    def _optimize(self, parts: Iterator[Batch], volumes: int) -> torch.Tensor:
        return accumulated_step(
            self.network,
            self.optimizer,
            parts,
            self.loss,
            volumes=volumes,
            precision=self.config.precision,
        )

    def _report(self, metrics: dict[str, float], progress: TrainState, *, final: bool) -> None:
        due = final or progress.epoch % self.config.checkpoint_every == 0
        if not due or rank() != 0:
            self.reporter.epoch(metrics, None)
            return
        aside = Path(tempfile.mkdtemp(prefix="ossnet-checkpoint-"))
        try:
            state = {"progress": asdict(progress), "optimizer": self.optimizer.state_dict()}
            self.save(aside / "checkpoint", state)
            self.reporter.epoch(metrics, aside / "checkpoint")
        finally:
            shutil.rmtree(aside)


@dataclass
class _BatchSource:
    """The batches of an epoch, in the parts in which they are made, and what is known of them so far."""

    batches: Iterator[Batch]
    volumes: int
    """Volumes of a step on this rank."""
    waits_s: list[float] = field(default_factory=list)
    """Seconds that each part was waited for."""
    points: int = 0
    """Predictions of all parts."""
    cases: tuple[str, ...] = ()
    """Cases of the last step."""

    def parts(self) -> Iterator[Batch]:
        """The parts of the next step, each fetched when it is asked for."""
        self.cases = ()
        while len(self.cases) < self.volumes:
            yield self._next()

    def _next(self) -> Batch:
        began = time.monotonic()
        batch = next(self.batches)
        self.waits_s.append(time.monotonic() - began)
        self.points += batch.n_predictions
        self.cases += batch.cases
        return batch


def _place(progress: TrainState, *, final: bool) -> dict[str, float]:
    return {
        "epoch": float(progress.epoch),
        "step": float(progress.step),
        "final": float(final),
        "time/elapsed_s": progress.elapsed_s,
    }
