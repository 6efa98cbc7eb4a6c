"""The training loop: given batches, a way to validate and a reporter, and nothing of where they come from."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
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
from ossnet.training.step import optimizer_step


@dataclass(frozen=True)
class TrainingConfig:
    """Options of training: its length, batch size and precision."""

    epochs: int = 50
    """Passes over the training cases (paper: 50)."""
    max_time_s: float | None = None
    """Seconds after which the running epoch is the last one; schedules follow whichever limit is nearer."""
    batch_size: int = 8
    """Volumes a step, over all workers (paper: 8 for BraTS, 4 for LiTS)."""
    steps_per_batch: int | None = None
    """Successive steps on the same volumes, each with points of its own; nothing: as many as keep a GPU from
    waiting, 1 on a CPU."""
    loader_threads: int | None = None
    """Threads that read the next steps' cases; nothing: one for each CPU but the network's, 8 at most."""
    device_cache_gib: float | None = None
    """GiB of the device for volumes that stay there from epoch to epoch; nothing: what all take, where a GPU
    would wait without and they fit, else 0."""
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
        counts = ("epochs", "batch_size", "validate_every", "checkpoint_every")
        for name in (*counts, "steps_per_batch", "loader_threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(name, expected="at least 1", found=str(value))
        if self.device_cache_gib is not None and not 0 <= self.device_cache_gib < float("inf"):
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
    next_batch: Callable[[Batch], list[torch.Tensor]]
    """Room for what is made for the next step while one takes place, as large as `ossnet.planning` predicts;
    it stands for that on a CPU, where another thread's tensors are not seen."""
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
        waits, points, losses = list[float](), 0, 0.0
        steps = range(progress.step + 1, self.first_step(progress.epoch + 1) + 1)
        for step in steps:
            began_wait = time.monotonic()
            batch = next(batches)
            waits.append(time.monotonic() - began_wait)
            loss = self._step(batch, step)
            losses += loss
            points += batch.n_predictions * world_size()
            if rank() == 0:
                self.reporter.step({"loss/train": loss}, step)
        took = time.monotonic() - began
        return {
            "loss/train_epoch": losses / len(steps),
            "time/step_s": took / len(steps),
            "time/data_wait_fraction": sum(waits) / took,
            "time/first_batch_s": waits[0],
            "throughput/points_per_s": points / took,
            "memory/predicted_gib": self.predicted_gib,
            **(self.peak or {}),
        }

    def _step(self, batch: Batch, step: int) -> float:
        """Take an optimizer step; the process's second one (after warm-up, or its only one) is measured as
        well."""
        if self.peak is None and (self._warm() or self.first_step(self.config.epochs) == 1):
            kept = [*self.network.parameters(), *self.network.buffers(), *state_tensors(self.optimizer)]
            if self.device.type == "cpu":
                kept += self.next_batch(batch)
            with track_peak(self.device, resident=[*kept, *batch.tensors()]) as tracked:
                loss = self._optimize(batch)
            memory = tracked.memory
            found = {
                "memory/peak_allocated_gib": memory.allocated_gib,
                "memory/peak_reserved_gib": memory.reserved_gib,
                "memory/allocator_retries": float(memory.retries),
                "memory/allocator_out_of_memory": float(memory.out_of_memory),
            }
            self.peak = {name: max_over_ranks(value, self.device) for name, value in found.items()}
        else:
            loss = self._optimize(batch)
        value = mean_over_ranks(loss)
        if value != value or abs(value) == float("inf"):
            msg = (
                f"the loss is {value} at step {step}, cases {', '.join(batch.cases)}: lower the learning rate"
            )
            raise FloatingPointError(msg)
        return value

    def _warm(self) -> bool:
        """Whether the optimizer has made its state, which it does in its first step."""
        return bool(state_tensors(self.optimizer))

    def _optimize(self, batch: Batch) -> torch.Tensor:
        return optimizer_step(self.network, self.optimizer, batch, self.loss, precision=self.config.precision)

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


def _place(progress: TrainState, *, final: bool) -> dict[str, float]:
    return {
        "epoch": float(progress.epoch),
        "step": float(progress.step),
        "final": float(final),
        "time/elapsed_s": progress.elapsed_s,
    }
