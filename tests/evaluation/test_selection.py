"""The greedy choice of an ensemble: never worse than its best member, and what it says is what it scores."""

import json
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ossnet.config import Config
from ossnet.data import Store
from ossnet.data.labels.scheme import ClassScheme
from ossnet.evaluation.metrics import dice_iou
from ossnet.evaluation.run import evaluate
from ossnet.evaluation.selection import CandidateProbabilities, select, select_ensemble
from ossnet.inference.ensemble import load_predictor
from ossnet.models import network_from_config
from ossnet.training.checkpoint import save_checkpoint

SHAPE = (6, 5, 4)


@given(st.integers(1, 3), st.booleans(), st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**16))
def test_a_choice_is_what_its_mean_scores_on_whole_volumes(
    classes: int, overlapping: bool, candidates: int, size: int, seed: int
) -> None:
    scheme, generator = ClassScheme(classes, overlapping=overlapping and classes > 1), torch.Generator()
    generator.manual_seed(seed)
    label = torch.randint(0, len(scheme.membership), SHAPE, generator=generator).to(torch.uint8)
    label[2:] = 0
    logits = 2 * torch.randn(candidates, classes + 1, *SHAPE, generator=generator)
    logits[:, 0] += 2
    probabilities = logits[:, 1:].sub(2).sigmoid() if scheme.independent else logits.softmax(1)[:, 1:]
    volumes = probabilities.half()
    case = CandidateProbabilities.of(list(volumes), label.clone(), scheme)
    assert case.label.numel() <= label.numel()
    chosen = select([case], scheme, size=size)
    assert chosen is not None

    def dice(mean: torch.Tensor) -> float:
        scores = dice_iou(scheme.decide_probabilities(mean), label, scheme)
        return sum(each.dice for each in scores) / len(scores)

    assert sum(chosen.weights.values()) == pytest.approx(1)
    assert len(chosen.weights) <= min(size, candidates)
    assert chosen.best_dice == pytest.approx(max(dice(each.float()) for each in volumes))
    assert chosen.dice >= chosen.best_dice
    counts = {index: round(weight * 60) for index, weight in chosen.weights.items()}  # size divides 60
    mean = torch.stack([counts[index] * volumes[index].double() for index in counts]).sum(0) / 60
    assert chosen.dice == pytest.approx(dice(mean), abs=0.02)  # ties may be rounded otherwise


def test_networks_that_complement_one_another_are_better_together() -> None:
    """Each of three misses another third of the foreground: two see all of it, so that no third is needed."""
    scheme, label = ClassScheme(1), torch.zeros(9, 2, 2, dtype=torch.uint8)
    label[:6] = 1
    volumes = []
    for index in range(3):
        probability = 0.8 * (label[None] > 0)
        probability[:, 2 * index : 2 * index + 2] = 0.3
        volumes.append(probability.half())
    useless = torch.full((1, 9, 2, 2), 0.9).half()
    case = CandidateProbabilities.of([*volumes, useless], label.clone(), scheme)
    chosen = select([case], scheme, size=5)
    assert chosen is not None
    assert chosen.best_dice == pytest.approx(0.8)
    assert chosen.dice == 1
    assert chosen.weights == {0: 0.5, 1: 0.5}
    alone = select([case], scheme, size=1)
    assert alone is not None
    assert (len(alone.weights), alone.dice) == (1, alone.best_dice)


def test_an_ensemble_keeps_to_the_seconds_a_case() -> None:
    """Two quick networks see all together; one that is better alone leaves no time for another."""
    scheme, label = ClassScheme(1), torch.zeros(8, 2, 2, dtype=torch.uint8)
    label[:6] = 1
    volumes = []
    for missed in (slice(0, 3), slice(3, 6), slice(0, 1)):
        probability = 0.8 * (label[None] > 0)
        probability[:, missed] = 0.3
        volumes.append(probability.half())
    case, seconds = CandidateProbabilities.of(volumes, label.clone(), scheme), [1.0, 1.0, 3.0]
    weights = {}
    for at_most_s in (0.5, 1.0, 2.0, 3.0, 4.0):
        chosen = select([case], scheme, size=4, seconds=seconds, at_most_s=at_most_s)
        weights[at_most_s] = None if chosen is None else set(chosen.weights)
        if chosen is not None:
            assert sum(seconds[index] for index in chosen.weights) <= at_most_s
    assert weights == {0.5: None, 1.0: {0}, 2.0: {0, 1}, 3.0: {2}, 4.0: {2, 1}}


def test_the_dice_of_an_ensemble_is_what_evaluate_finds(store: Store, tmp_path: Path) -> None:
    folders = []
    for seed, preset in enumerate(("oss-net-a", "oss-net-a", "unet-3d")):
        small = {"model.encoder_channels": (4, 4), "model.decoder_width": 8, "model.patch_edge": 3}
        config = Config.preset(preset, store)
        config = config.replace({"model.channels": (4, 8)} if preset == "unet-3d" else small).resolve_for(
            store
        )
        torch.manual_seed(seed)
        documents = {"config.json": config.to_json(), "task.json": json.dumps(store.task.to_dict())}
        folders.append(tmp_path / str(seed))
        save_checkpoint(folders[-1], network=network_from_config(config.model), documents=documents, state={})
    cases = store.split("validation")
    found = select_ensemble(folders, store, cases, size=3)
    assert found is not None
    assert found.cases == len(cases)
    evaluation = evaluate(load_predictor(found.members), store, split="validation", output=tmp_path / "out")
    assert found.dice == pytest.approx(evaluation.summary["dice"]["mean"], abs=2e-3)  # half precision
    assert found.dice >= found.best_dice > 0


def test_without_time_for_a_case_nothing_is_chosen(store: Store, checkpoint: Path) -> None:
    cases = store.split("validation")
    assert select_ensemble([checkpoint], store, cases, size=2, until=time.time() - 1) is None
