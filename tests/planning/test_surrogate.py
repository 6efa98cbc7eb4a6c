"""The model of predicted peaks, on 130 exact predictions of a space whose peaks differ by a factor of 700.

`peaks.json` holds what the space of `test_feasibility.py` returned for random points, and the GiB predicted
when it was written.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ossnet.planning.surrogate import Estimates, PeakSurrogate, features

PEAKS: list[tuple[dict[str, Any], float]] = json.loads(Path(__file__).with_name("peaks.json").read_text())


def estimated(known: int, seed: int) -> tuple[Estimates, np.ndarray]:
    """Estimates from some of the exact predictions, and the logarithms of the others."""
    order = np.random.default_rng(seed).permutation(len(PEAKS))
    surrogate = PeakSurrogate()
    for place in order[:known]:
        surrogate.add(*PEAKS[place])
    others = [PEAKS[place] for place in order[known:]]
    return surrogate.estimate([changes for changes, _ in others]), np.log([gib for _, gib in others])


@pytest.mark.parametrize(("known", "error"), [(24, 0.55), (64, 0.25)])
def test_estimates_are_close_and_within_their_bounds(known: int, error: float) -> None:
    offs, deviations = [], []
    for seed in range(6):
        estimates, logs = estimated(known, seed)
        offs.append(np.abs(estimates.center - logs).mean())
        deviations.append(np.abs(estimates.center - logs) / estimates.spread)
    assert np.mean(offs) < error
    assert (np.concatenate(deviations) > 4).mean() < 0.005


def test_what_is_known_is_estimated_as_it_is() -> None:
    surrogate = PeakSurrogate()
    for changes, gib in PEAKS[:30]:
        surrogate.add(changes, gib)
    estimates = surrogate.estimate([changes for changes, _ in PEAKS[:30]])
    np.testing.assert_allclose(estimates.center, np.log([gib for _, gib in PEAKS[:30]]), atol=0.05)


def test_an_unknown_choice_is_less_sure() -> None:
    surrogate = PeakSurrogate()
    for changes, gib in PEAKS[:30]:
        surrogate.add(changes, gib)
    changes = PEAKS[0][0]
    spread = surrogate.estimate([changes, changes | {"model": "unet-3d"}]).spread
    assert spread[1] > spread[0] + 0.9


def test_what_takes_no_memory_changes_no_estimate() -> None:
    surrogate = PeakSurrogate()
    for place, (changes, gib) in enumerate(PEAKS[:12]):
        surrogate.add(changes | {"optimizer.learning_rate": 1e-4 * place}, gib)
    changes = PEAKS[20][0]
    one, other = surrogate.estimate([changes, changes | {"sampling.border_fraction": 0.7}]).center
    assert one == other


def test_features_of_each_kind() -> None:
    found = features({"a": 3, "b": (4, 8), "c": "bf16", "d": True, "e": None})
    assert found == pytest.approx(
        {
            "a": np.log(4),
            "b length": np.log(2),
            "b first": np.log(5),
            "b sum": np.log(13),
            "c=bf16": 1,
            "d=True": 1,
            "e=None": 1,
        }
    )
