"""The smallest component is fitted where it helps cases that it was not fitted on, and nowhere else."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from ossnet.commands import evaluate
from ossnet.data import Store
from ossnet.evaluation.cases import score_case
from ossnet.evaluation.component_fit import CaseComponents, _Fit
from ossnet.inference import Predictor


def case(false: float, *, true: float = 10.0) -> CaseComponents:
    """A lesion that is found but for a tenth, beside a false one of a volume."""
    return CaseComponents(np.array([true, false]), np.array([0.9 * true, 0.0]), true)


def test_false_components_that_are_always_smaller_go() -> None:
    cases = [case(0.1), case(0.3), case(0.2), case(0.4)]
    found = _Fit.of(cases)
    assert 0.4 < found.smallest_ml < 10
    assert found.before == pytest.approx(np.mean([18 / (20 + each) for each in (0.1, 0.3, 0.2, 0.4)]))
    assert found.after == pytest.approx(0.9)
    assert found.before < found.held_out <= found.after


def test_what_helps_only_the_cases_it_was_fitted_on_is_not_kept() -> None:
    small_lesions = [case(0.3), case(2.0, true=0.1), case(0.3), case(2.0, true=0.1)]
    found = _Fit.of(small_lesions)
    assert found.smallest_ml == 0
    assert found.after == found.before == found.held_out


def test_of_components_and_of_nothing() -> None:
    predicted, label = np.zeros((2, 6, 6, 6), bool)
    predicted[0, 0, 0] = predicted[3:5, 3, 3] = label[4:6, 3, 3] = True
    found = CaseComponents.of(predicted, label, 0.5)
    assert sorted(zip(found.volumes_ml, found.shared_ml, strict=True)) == [(0.5, 0.0), (1.0, 0.5)]
    assert found.dice(0.0) == pytest.approx(2 * 1 / 5)
    assert found.dice(0.7) == pytest.approx(2 * 1 / 4)
    nothing = CaseComponents.of(np.zeros_like(label), np.zeros_like(label), 0.5)
    assert nothing.dice(0.1) == 1
    assert _Fit.of([nothing]).smallest_ml == 0


def test_evaluate_fits_it_stores_it_and_says_what_it_brings(
    store: Store, checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path(shutil.copytree(checkpoint, tmp_path / "checkpoint"))
    options = ["--checkpoint", folder, "--data", store.root, "--output", tmp_path / "out", "--fit-components"]
    with caplog.at_level(logging.INFO):
        evaluate.main([*map(str, options), "--json"])
    lines = [
        each.message for each in caplog.records if "components" in each.message and "Dice" in each.message
    ]
    assert [line.split(":")[0] for line in lines] == list(store.task.class_names)
    plain = Predictor.from_checkpoint(checkpoint, device="cpu")
    fitted = Predictor.from_checkpoint(folder, device="cpu")
    assert fitted.components is not None
    assert fitted.components.cases == len(store.split("validation"))
    for name, size in fitted.components.smallest_ml.items():
        cases = store.split("validation")
        dice = [
            np.mean([score_case(each, store, case)[0].overlaps[name].dice for case in cases])
            for each in (plain, fitted)
        ]
        assert dice[0] == pytest.approx(fitted.components.dice_before[name], abs=1e-6)
        assert dice[1] == pytest.approx(fitted.components.dice_after[name], abs=1e-6)
        assert (size == 0) == (fitted.components.dice_held_out[name] == fitted.components.dice_before[name])
