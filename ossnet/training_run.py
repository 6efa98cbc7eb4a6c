"""A run from its configuration: network, batches, validation and checkpoints put together, without Ray."""

import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ossnet.config import Config
from ossnet.data import Store, Task
from ossnet.data.store.lost_cases import ReadableCases
from ossnet.data.store.training_range import TRAINING_RANGE, TrainingRange
from ossnet.evaluation.validation import BestPictures, Pictures, Validation
from ossnet.memory.available import available_memory
from ossnet.memory.device import resolve_device
from ossnet.memory.peak import GIB
from ossnet.metric_names import LOST_CASES
from ossnet.models import network_from_config
from ossnet.output.remote.copies import fetch_input
from ossnet.planning.data_path import DataPath, InputRates, choose_data_path, measure_rates
from ossnet.planning.inference import predict_inference
from ossnet.planning.margin import MARGIN
from ossnet.planning.oom import check_memory, reraise_oom
from ossnet.planning.peak import device_cache, next_batch
from ossnet.sampling.batch import Batch
from ossnet.sampling.batches import BatchMaker, batch_maker
from ossnet.sampling.loader import ReadCase, loader_threads
from ossnet.sampling.sampler import (
    SampleKey,
    batch_order,
    check_batch,
    first_step,
    largest_part,
    parts_of_share,
    repeat_steps,
    split_batches,
)
from ossnet.sampling.stream import stream_batches
from ossnet.sampling.volume import VolumeCache
from ossnet.training import TrainingConfig
from ossnet.training.checkpoint import RUN, check_checkpoint, load_state, load_weights, save_checkpoint
from ossnet.training.checkpoint_files import TRACKING, Interim
from ossnet.training.collectives import all_gather, errors_on_all, max_over_ranks, rank, world_size, wrap_ddp
from ossnet.training.compilation import maybe_compile
from ossnet.training.initialize import Initialization, TrainedNetwork
from ossnet.training.loop import Trainer
from ossnet.training.optimizer import build_optimizer
from ossnet.training.reporting import Reporter, RunOrigin, TrainState
from ossnet.training.step import optimizer_step

logger = logging.getLogger(__name__)

ReportLost = Callable[[str, str], None]
"""Called on rank 0 for each case that was left out: its id, and why."""


def run_training(
    config: Config,
    store: Store,
    *,
    reporter: Reporter,
    references: Iterable[list[SampleKey]] | None = None,
    resume_from: Path | None = None,
    device: str | None = None,
    predicted_gib: float | None = None,
    neediest_workers: int | None = None,
    chosen: Callable[[Mapping[str, Any]], None] = lambda _: None,
    deadline: float | None = None,
    run: str | None = None,
    interim: Interim | None = None,
    report_lost: ReportLost = lambda case, why: logger.warning(f"warning: left out: {why}"),
    now: Callable[[], float] = time.monotonic,
    measured: Callable[[float], None] = lambda _: None,
    pictures: Callable[[Pictures], None] | None = None,
    origin: RunOrigin | None = None,
) -> dict[str, float]:
    """Train a network on a store's training split, in this process or as one rank of a process group.

    Args:
        references: this rank's cases a step, for the whole run, as `run_order` gives them; by default the
            order of the seed.
        resume_from: a checkpoint folder to continue from.
        device: where the network lives; by default the current CUDA device, or the CPU.
        predicted_gib: the predicted peak of a training step, where it is known; else it is predicted here.
        neediest_workers: the number of workers that the run may have later with which each needs most memory;
            that is checked as well.
        chosen: called on every rank with the values, by dotted path, that were chosen by measuring.
        deadline: unix time by which the run has to have ended, its checkpoint written and reported.
        run: the run's id, which its checkpoints carry.
        interim: saves checkpoints between two reports, on rank 0.
        report_lost: called after the epoch in which a case was left out; by default it is logged.
        now: the clock of the run's time, in seconds; that of the wall by default.
        measured: called with the measured peak of a step in GiB, once; it may raise to end the run.
        pictures: called on rank 0 after each validation with the highest Dice so far, with slices of three
            cases.
        origin: where the run is tracked, which its checkpoints carry.

    Returns:
        The last epoch's metrics.

    Raises:
        ossnet.errors.UserError: the store and the configuration do not go together, or the network and that
            which it starts from; or the time does not suffice for one step and one validated case.
        ossnet.errors.OutOfMemory: memory does not, or cannot, suffice; says what would help most.
    """
    began = now()
    config = config.resolve_for(store)
    cases = store.split("training", fold=config.training.fold)
    check_batch(len(cases), config.training.batch_size, world_size())
    place = resolve_device(device)
    predicted = check_memory(config, place, workers=world_size(), predicted_gib=predicted_gib)
    if neediest_workers not in (None, world_size()):
        check_memory(config, place, workers=neediest_workers)
    torch.manual_seed(config.training.seed)
    with reraise_oom(config, workers=world_size(), measured_gib=lambda: None):
        network = network_from_config(config.model).to(place)
    if resume_from is None and config.training.initialize_from is not None:
        trained = TrainedNetwork.read(fetch_input(Path(config.training.initialize_from)))
        initialization = Initialization.plan(trained, config.model, store.task)
        initialization.apply(network)
        if rank() == 0:
            logger.info(str(initialization))
    maybe_compile(config.training.compile, network)
    if references is None:
        references = run_order(store, config.training, rank=rank(), world_size=world_size())
    readable, validated = (_readable(store, config, split) for split in ("training", "validation"))
    given = config.training
    if given.steps_per_batch is None or given.device_cache_gib is None:
        with reraise_oom(config, workers=world_size(), measured_gib=lambda: None):
            if resume_from is None:
                values = _choose_values(config, store, readable.case, network, place, predicted)
            else:
                values = _values_of(resume_from, given)
        chosen(values)
        config = config.replace(values)
        if given.steps_per_batch is None:
            references = repeat_steps(references, config.training.steps_per_batch or 1)
        if given.device_cache_gib is None:
            predicted += config.training.device_cache_gib or 0.0
    optimizer = build_optimizer(network, config.optimizer)
    progress, best = TrainState(), -math.inf
    if resume_from is not None:
        check_checkpoint(resume_from)
        load_weights(resume_from, network)
        state = load_state(resume_from)
        optimizer.load_state_dict(state["optimizer"])
        progress, best = TrainState(**state["progress"]), state.get("dice") or best
    validate = Validation(
        network,
        store.task,
        validated,
        sampling=config.sampling,
        settings=config.inference,
        device=place,
        now=now,
        pictures=None if pictures is None else BestPictures(store.task, pictures, best),
    )
    trainer = Trainer(
        network=wrap_ddp(network),
        optimizer=optimizer,
        config=config.training,
        loss=config.loss,
        optimizer_config=config.optimizer,
        device=place,
        predicted_gib=predicted,
        next_batch=lambda batch: _unseen(config, batch, place),
        first_step=lambda epoch: run_start(store, config.training, epoch),
        validate=validate,
        validation_cases=len(validate.shared),
        deadline=deadline,
        now=now,
        measured=measured,
        save=_saver(network, config, store, run, origin),
        reporter=reporter,
        interim=interim,
        count_lost=_LostCount((readable, validated), report_lost, strict=config.data.strict),
    )
    cache = VolumeCache(int((config.training.device_cache_gib or 0) * GIB), place)
    make = run_batch_maker(config, store.task, device=place, cache=cache)
    stream = stream_batches(
        split_batches(
            (step for step in references if step[0].step >= progress.step),
            parts_of_share(config.training.accumulation_steps, **_share(config.training)),
        ),
        readable.case,
        make,
        threads=loader_threads(config.training.loader_threads),
        device=place,
        cache=cache,
    )
    trainer.prepared_s = now() - began
    try:
        with reraise_oom(config, workers=world_size(), measured_gib=lambda: trainer.peak_gib):
            return trainer.fit(stream, progress)
    finally:
        stream.close()


def _unseen(config: Config, batch: Batch, device: torch.device) -> list[torch.Tensor]:
    """Room for what the measurement of a step on a CPU does not see, as it is made by another thread; a GPU's
    allocator sees all."""
    return [*next_batch(config, batch), device_cache(config, device)] if device.type == "cpu" else []


def _share(training: TrainingConfig) -> dict[str, int]:
    """What decides a worker's share of a batch."""
    return {"batch_size": training.batch_size, "world_size": world_size()}


def _may_wait(device: torch.device) -> bool:
    """Whether a device is so much faster than the CPUs that read for it that it may wait."""
    return device.type == "cuda"


def _values_of(checkpoint: Path, given: TrainingConfig) -> dict[str, int | float]:
    """By dotted path what a run chose before it left this checkpoint, where nothing is given now."""
    before = Config.from_json(checkpoint / "config.json").training
    steps = given.steps_per_batch or before.steps_per_batch or 1
    cache = before.device_cache_gib if given.device_cache_gib is None else given.device_cache_gib
    return DataPath(steps, cache or 0.0, "").changes()


def _choose_values(
    config: Config,
    store: Store,
    read: ReadCase,
    network: nn.Module,
    device: torch.device,
    predicted_gib: float,
) -> dict[str, int | float]:
    """By dotted path how this run's volumes reach the device, which is the same on every rank."""
    training = config.training
    if not _may_wait(device):
        return DataPath(training.steps_per_batch or 1, training.device_cache_gib or 0.0, "").changes()
    with errors_on_all(device):
        rates = _measure_rates(config, store, read, network, device)
    entries = store.manifest.cases
    voxels = sum(
        math.prod(entries[case].statistics.shape) for case in store.split("training", fold=training.fold)
    )
    needed = max(predicted_gib * GIB, predict_inference(config).allocated)
    share = torch.cuda.get_per_process_memory_fraction(device) if device.type == "cuda" else 1.0
    free = share * available_memory(device) - MARGIN.needed(round(needed))
    path = choose_data_path(
        InputRates(max_over_ranks(rates.host_s, device), max_over_ranks(rates.step_s, device)),
        training,
        volumes=largest_part(training.accumulation_steps, **_share(training)),
        store_bytes=voxels * (2 * config.model.in_channels + 1),
        free_bytes=-max_over_ranks(-free, device),
    )
    if rank() == 0:
        logger.info(str(path))
    return path.changes()


def _measure_rates(
    config: Config, store: Store, read: ReadCase, network: nn.Module, device: torch.device
) -> InputRates:
    """Measure on the run's first batches, and leave the network and all random states as they were."""
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = build_optimizer(network, config.optimizer)
    network.train()
    each_once = replace(config.training, steps_per_batch=1)
    with torch.random.fork_rng():
        rates = measure_rates(
            split_batches(
                run_order(store, each_once, rank=rank(), world_size=world_size()),
                parts_of_share(each_once.accumulation_steps, **_share(each_once)),
            ),
            read,
            run_batch_maker(config, store.task, device=device),
            lambda batch: optimizer_step(
                network, optimizer, batch, config.loss, precision=config.training.precision
            ),
            threads=loader_threads(config.training.loader_threads),
            device=device,
        )
    network.load_state_dict(weights)
    network.zero_grad()
    return rates


def run_order(
    store: Store, training: TrainingConfig, *, rank: int = 0, world_size: int = 1
) -> Iterator[list[SampleKey]]:
    """A rank's cases of every step of a run on a store."""
    entries = store.manifest.cases
    cases = store.split("training", fold=training.fold)
    return batch_order(
        cases,
        epochs=training.epochs,
        batch_size=training.batch_size,
        seed=training.seed,
        steps_per_batch=training.steps_per_batch or 1,
        sizes={case: math.prod(entries[case].statistics.shape) for case in cases},
        rank=rank,
        world_size=world_size,
    )


def run_start(store: Store, training: TrainingConfig, epoch: int) -> int:
    """The first step of an epoch of a run on a store."""
    cases = len(store.split("training", fold=training.fold))
    return first_step(
        epoch, cases=cases, batch_size=training.batch_size, steps_per_batch=training.steps_per_batch or 1
    )


def run_batch_maker(
    config: Config, task: Task, *, device: torch.device | None = None, cache: VolumeCache | None = None
) -> BatchMaker:
    """Makes the batches of a run on a device, by default the CPU, from the volumes of its steps."""
    return batch_maker(
        task,
        model=config.model,
        sampling=config.sampling,
        augmentation=config.augmentation,
        seed=config.training.seed,
        device=device,
        cache=cache,
    )


def _readable(store: Store, config: Config, split: str) -> ReadableCases:
    """The cases of a run's split, of which some may be left out where the configuration says so."""
    training, data = config.training, config.data
    cases = store.split(split, fold=training.fold)
    if split == "validation":
        cases = cases[: training.validation_cases]
    return ReadableCases(
        store, cases, split=split, strict=data.strict, max_lost=data.max_lost, seed=training.seed
    )


class _LostCount:
    """Counts and reports the cases that any rank left out; called after each epoch, on every rank."""

    def __init__(self, splits: Sequence[ReadableCases], report: ReportLost, *, strict: bool) -> None:
        self._splits, self._report, self._strict = splits, report, strict
        self._reported = set[str]()

    def __call__(self) -> dict[str, float]:
        """The number of cases left out.

        Raises:
            UserError: they are too many, or all.
        """
        if self._strict:
            return {}
        count = 0
        for split in self._splits:
            lost = dict(all_gather(list(split.lost.items())))
            for case in sorted(lost.keys() - self._reported):
                if rank() == 0:
                    self._report(case, lost[case])
                self._reported.add(case)
            split.check(lost)
            count += len(lost)
        return {LOST_CASES: float(count)}


def _saver(
    network: nn.Module, config: Config, store: Store, run: str | None, origin: RunOrigin | None
) -> Callable[[Path, Mapping[str, Any]], None]:
    documents = {"config.json": config.to_json(), "task.json": json.dumps(store.task.to_dict(), indent=2)}
    documents[TRAINING_RANGE] = TrainingRange.of(store, fold=config.training.fold).to_json()
    documents |= {} if origin is None else {TRACKING: origin.to_json()}

    def save(folder: Path, state: Mapping[str, Any]) -> None:
        save_checkpoint(folder, network=network, documents=documents, state={**state, RUN: run})

    return save
