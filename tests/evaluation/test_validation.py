"""Validation while training: the scores are those of the cases, and the best so far are drawn."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ossnet.data import Store
from ossnet.data.store.lost_cases import ReadableCases
from ossnet.evaluation.cases import score_case
from ossnet.evaluation.validation import BestPictures, Validation
from ossnet.inference import Predictor
from ossnet.output.palette import rgb
from ossnet.training.clock import Until


def decoded(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)), int)


def validation_of(predictor: Predictor, store: Store, ids: tuple[str, ...], **options: Any) -> Validation:
    cases = ReadableCases(store, ids, split="training", strict=True, max_lost=0.0, seed=0)
    network, device = predictor.network, torch.device("cpu")
    return Validation(network, store.task, cases, predictor.sampling, predictor.settings, device, **options)


def test_a_validation_scores_its_cases_and_draws_them(store: Store, checkpoint: Path) -> None:
    predictor, drawn = Predictor.from_checkpoint(checkpoint, device="cpu"), list[Mapping[str, bytes]]()
    ids = store.split("training")[:4]
    validate = validation_of(predictor, store, ids, pictures=BestPictures(store.task, drawn.append))
    assert validate.shared == ids
    first = validate(None, 1)
    assert first["validation/cases"] == 1
    assert not drawn  # it only measures how long a case takes
    metrics = validate(None, None)
    expected = [score_case(predictor, store, case)[0].dice for case in ids]
    assert metrics["dice/val"] == pytest.approx(np.mean(expected))
    assert metrics["validation/cases"] == 4
    (pictures,) = drawn
    assert tuple(pictures) == ids[:3]
    height, width, _ = decoded(pictures[ids[0]]).shape
    assert width > height > 256  # three planes side by side, the label above the prediction
    validate(None, None)
    assert len(drawn) == 1  # no better than before


def test_cases_that_time_did_not_allow_count_as_they_were_scored_last(store: Store, checkpoint: Path) -> None:
    predictor, time = Predictor.from_checkpoint(checkpoint, device="cpu"), [0.0]
    ids = store.split("training")[:4]

    def now() -> float:
        time[0] += 1  # a look at the clock takes a second
        return time[0]

    validate = validation_of(predictor, store, ids, now=now)
    before = [score_case(predictor, store, case)[0].dice for case in ids]
    only_first = Until(last=time[0], first=float("inf"))
    assert validate(only_first, None)["dice/val"] == pytest.approx(before[0])  # there is no earlier one
    assert validate(None, None)["dice/val"] == pytest.approx(np.mean(before))
    with torch.no_grad():
        for parameter in predictor.network.parameters():
            parameter.neg_()
    after = score_case(predictor, store, ids[0])[0].dice
    assert abs(after - before[0]) > 1e-3
    metrics = validate(Until(last=time[0], first=float("inf")), None)
    assert metrics["validation/cases"] == 1
    assert metrics["dice/val"] == pytest.approx(np.mean([after, *before[1:]]))


def test_only_a_better_validation_is_drawn_with_label_and_prediction(store: Store) -> None:
    drawn = list[Mapping[str, bytes]]()
    pictures, case = BestPictures(store.task, drawn.append, best=0.5), store.case(store.split("training")[0])
    for dice in (0.5, 0.75, None, 0.6, 0.8):
        pictures.add(case, np.zeros_like(case.label))  # a prediction of background alone
        pictures.finish(dice)
    assert len(drawn) == 2
    picture = decoded(drawn[0][case.id])
    above, below = np.split(picture, 2)
    assert (above == rgb(0)).all(-1).any()
    assert (below.max(-1) == below.min(-1)).all()  # gray: nothing was predicted
