"""A run from its configuration: network, batches, validation and checkpoints put together, without Ray."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ossnet import tree
from ossnet.checkpoint import load_state, load_weights, save_checkpoint
from ossnet.config import Config
from ossnet.data import Store
from ossnet.evaluation import score_cases, summarise
from ossnet.models import network_from_config
from ossnet.sampling.batches import batch_maker, batches
from ossnet.sampling.order import Reference, check_batch, steps_per_epoch, training_order
from ossnet.sampling.prefetch import prefetch
from ossnet.training.loop import Progress, Reporter, Trainer
from ossnet.training.optimiser import build_optimiser
from ossnet.training.ranks import gathered, rank, world


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
    """
    config = config.for_store(store)
    cases = store.split("training", fold=config.training.fold)
    check_batch(len(cases), config.training.batch_size, world())
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    torch.manual_seed(config.training.seed)
    network = network_from_config(config.model).to(place)
    optimiser = build_optimiser(network, config.optimiser)
    progress = Progress()
    if resume_from is not None:
        load_weights(resume_from, network)
        state = load_state(resume_from)
        optimiser.load_state_dict(state["optimiser"])
        progress = Progress(**state["progress"])
    if references is None:
        references = _order(config, cases)
    trainer = Trainer(
        network=_parallel(network),
        optimiser=optimiser,
        config=config.training,
        loss=config.loss,
        optimiser_config=config.optimiser,
        device=place,
        steps_per_epoch=steps_per_epoch(len(cases), config.training.batch_size),
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
        return trainer.fit(stream, progress)
    finally:
        stream.close()


def _order(config: Config, cases: tuple[str, ...]) -> Iterable[list[Reference]]:
    training = config.training
    return training_order(
        cases,
        epochs=training.epochs,
        batch_size=training.batch_size,
        seed=training.seed,
        rank=rank(),
        world=world(),
    )


def _parallel(network: nn.Module) -> nn.Module:
    return DistributedDataParallel(network) if world() > 1 else network


def _validate(network: nn.Module, config: Config, store: Store) -> dict[str, float]:
    """Dice and IoU on the validation split's full volumes, shared among the ranks; nothing without cases."""
    training = config.training
    cases = store.split("validation", fold=training.fold)[: training.validation_cases]
    if not cases:
        return {}
    shared = cases[rank() :: world()]
    scores = score_cases(network, store, shared, sampling=config.sampling, settings=config.inference)
    return summarise(gathered(scores))


def _saver(network: nn.Module, config: Config, store: Store) -> Callable[[Path, Mapping[str, Any]], None]:
    documents = {"config.json": config.to_json(), "task.json": json.dumps(tree.to_dict(store.task), indent=2)}

    def save(folder: Path, state: Mapping[str, Any]) -> None:
        save_checkpoint(folder, network=network, documents=documents, state=state)

    return save
