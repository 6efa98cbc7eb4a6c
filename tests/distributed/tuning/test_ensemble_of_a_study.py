"""The ensemble that a study ends with."""

from pathlib import Path

import pytest
from tuning_study import make_spec, open_runs, read_runs

from ossnet.config import Config
from ossnet.data import Store
from ossnet.distributed.launch import launch_study
from ossnet.errors import UserError
from ossnet.evaluation.run import evaluate
from ossnet.inference.ensemble import Ensemble, load_predictor, read_members
from ossnet.training.reporting import RunOrigin

SPACE = """
POINTS_TO_EVALUATE = [{"rate": 0.02}, {"rate": 0.01}]

def space(trial):
    return {"optimizer.learning_rate": trial.suggest_float("rate", 0.001, 0.02)}
"""


def test_an_ensemble_has_two_networks_at_least(tiny: Config, store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="ensemble: expected at least 2 networks, found 1"):
        make_spec(tmp_path, SPACE, tiny, store, ensemble=1)


@pytest.mark.slow
@pytest.mark.usefixtures("cluster", "mlflow_store")
def test_a_study_ends_with_an_ensemble(tiny: Config, store: Store, tmp_path: Path) -> None:
    base = tiny.replace({"training.validation_cases": None})
    result = launch_study(make_spec(tmp_path, SPACE, base, store, trials=2, ensemble=2))
    output, found = tmp_path / "study", result.ensemble
    assert found is not None
    assert found == Ensemble.read(output)
    assert found.cases == len(store.split("validation"))
    assert found.dice >= found.best_dice
    assert {each.name for each in (output / "ensemble").iterdir()} == {
        each.checkpoint.name for each in found.members
    }
    members = read_members([output])
    assert sum(each.weight for each in members) == pytest.approx(1)
    evaluation = evaluate(load_predictor(members), store, split="validation", output=tmp_path / "scores")
    assert found.dice == pytest.approx(evaluation.summary["dice"]["mean"], abs=5e-3)

    (parent, trials), client = read_runs(tmp_path), open_runs(tmp_path)
    assert "ensemble.json" in {each.path for each in client.list_artifacts(parent.info.run_id)}
    for trial in trials:
        drawn = client.list_artifacts(trial.info.run_id, "overlays")
        assert [each.path for each in drawn] == [
            f"overlays/{case}.png" for case in store.split("validation")[:3]
        ]
    origins = {RunOrigin.read(each.checkpoint) for each in members}
    assert {each.run for each in origins if each} <= {trial.data.tags["trial_id"] for trial in trials}

    again = launch_study(  # nothing is left to search
        make_spec(tmp_path, SPACE, base, store, trials=2, ensemble=3, resume=True)
    )
    assert again.ensemble is not None
    assert again.ensemble.dice >= found.dice - 1e-9
    assert {each.name for each in (output / "ensemble").iterdir()} == {
        each.checkpoint.name for each in again.ensemble.members
    }
