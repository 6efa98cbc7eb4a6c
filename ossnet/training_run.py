"""A run from its configuration: network, batches, validation and checkpoints put together, without Ray."""

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ossnet import config_tree as tree
from ossnet.config import Config
from ossnet.data import Store
from ossnet.evaluation import score_cases, summarise
from ossnet.models import network_from_config
from ossnet.planning.oom import check_memory, out_of_memory_told
from ossnet.sampling.batches import batch_maker, batches
from ossnet.sampling.prefetch import prefetch
from ossnet.sampling.sampler import Reference, check_batch, first_step, training_order
from ossnet.training import TrainingConfig
from ossnet.training.checkpoint import load_state, load_weights, save_checkpoint
from ossnet.training.collectives import gathered, rank, world
from ossnet.training.compilation import compile_if
from ossnet.training.loop import Progress, Reporter, Trainer
from ossnet.training.optimizer import build_optimiser


def run_training(
    config: Config,
    store: Store,
    *,
    reporter: Reporter,
    references: Iterable[list[Reference]] | None = None,
    resume_from: Path | None = None,
    device: str | None = None,
) -> dict[str, float]:
    """Train a network on a store's training split, in this process or as one rank of a process group.

    Args:
        references: this rank's cases a step, for the whole run; by default the order of the seed.
        resume_from: a checkpoint folder to go on from.
        device: where the network lives; by default the current CUDA device, or the CPU.

    Returns:
        The last epoch's metrics.

    Raises:
        ossnet.errors.UserError: the store and the configuration do not go together.
        ossnet.errors.OutOfMemory: memory does not, or cannot, suffice; says what would help most.
    """
    config = config.for_store(store)
    cases = store.split("training", fold=config.training.fold)
    check_batch(len(cases), config.training.batch_size, world())
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    predicted = check_memory(config, place, workers=world())
    torch.manual_seed(config.training.seed)
    with out_of_memory_told(config, workers=world(), measured_gib=lambda: None):
        network = network_from_config(config.model).to(place)
    compile_if(config.training.compile, network)
    optimiser = build_optimiser(network, config.optimiser)
    progress = Progress()
    if resume_from is not None:
        load_weights(resume_from, network)
        state = load_state(resume_from)
        optimiser.load_state_dict(state["optimiser"])
        progress = Progress(**state["progress"])
    if references is None:
        references = run_order(store, config.training, rank=rank(), world=world())
    trainer = Trainer(
        network=_parallel(network),
        optimiser=optimiser,
        config=config.training,
        loss=config.loss,
        optimiser_config=config.optimiser,
        device=place,
        predicted_gib=predicted,
        first_step=lambda epoch: run_start(store, config.training, epoch),
        validate=lambda: _validate(network, config, store),
        save=_saver(network, config, store),
        reporter=reporter,
    )
    make = batch_maker(
        store,
        model=config.model,
        sampling=config.sampling,
        augmentation=config.augmentation,
        seed=config.training.seed,
    )
    left = (step for step in references if step[0].step >= progress.step)
    stream = prefetch(batches(left, make))
    try:
        with out_of_memory_told(config, workers=world(), measured_gib=lambda: trainer.peak_gib):
            return trainer.fit(stream, progress)
    finally:
        stream.close()


def run_order(
    store: Store, training: TrainingConfig, *, rank: int = 0, world: int = 1
) -> Iterator[list[Reference]]:
    """A rank's cases of every step of a run on a store."""
    entries = store.manifest.cases
    cases = store.split("training", fold=training.fold)
    return training_order(
        cases,
        epochs=training.epochs,
        batch_size=training.batch_size,
        seed=training.seed,
        draws=training.draws,
        sizes={case: math.prod(entries[case].shape) for case in cases},
        rank=rank,
        world=world,
    )


def run_start(store: Store, training: TrainingConfig, epoch: int) -> int:
    """The first step of an epoch of a run on a store."""
    cases = len(store.split("training", fold=training.fold))
    return first_step(epoch, cases=cases, batch_size=training.batch_size, draws=training.draws)


def _parallel(network: nn.Module) -> nn.Module:
    return DistributedDataParallel(network) if world() > 1 else network


def _validate(network: nn.Module, config: Config, store: Store) -> dict[str, float]:
    """Dice, IoU and seconds a case on the validation split's full volumes, shared among the ranks."""
    training = config.training
    cases = store.split("validation", fold=training.fold)[: training.validation_cases]
    if not cases:
        return {}
    shared = cases[rank() :: world()]
    began = time.monotonic()
    scores = score_cases(network, store, shared, sampling=config.sampling, settings=config.inference)
    took = (time.monotonic() - began) / max(len(shared), 1)
    return summarise(gathered(scores)) | {"time/case_s": took}


def _saver(network: nn.Module, config: Config, store: Store) -> Callable[[Path, Mapping[str, Any]], None]:
    documents = {"config.json": config.to_json(), "task.json": json.dumps(tree.to_dict(store.task), indent=2)}

    def save(folder: Path, state: Mapping[str, Any]) -> None:
        save_checkpoint(folder, network=network, documents=documents, state=state)

    return save
