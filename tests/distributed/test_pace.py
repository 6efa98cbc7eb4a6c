"""What a step takes is measured where trials run, where that is worth its time."""

from dataclasses import replace
from pathlib import Path

import pytest
from tuning_study import make_spec

from ossnet.config import Config
from ossnet.data import Store
from ossnet.distributed.cluster.nodes import nodes
from ossnet.distributed.cluster.resources import plan_trials
from ossnet.distributed.pace import measure_pace
from ossnet.planning.configure.planner import Planner

SPACE = """
POINTS_TO_EVALUATE = [{"width": 32}]

def space(trial):
    return {"model.decoder_width": trial.suggest_categorical("width", [16, 32])}
"""
HOPELESS = """
def space(trial):
    return {"model.decoder_width": trial.suggest_categorical("width", [16]), "sampling.points": 2**30}
"""


@pytest.mark.usefixtures("cluster")
def test_the_first_steps_of_the_first_configuration_are_measured(
    tiny: Config, store: Store, planner: Planner, tmp_path: Path
) -> None:
    spec = make_spec(tmp_path, SPACE, tiny, store, trials=None, max_time_s=1200.0)
    placement = plan_trials(nodes(), 1)
    found = measure_pace(spec, planner, placement)
    assert found is not None
    assert found.network == "oss-net-c"
    assert 0 < found.step_s < 30
    assert 0 < found.validation_s < 60
    assert str(found).startswith("a step of oss-net-c takes ")
    for without in (
        replace(spec, max_time_s=None),
        replace(spec, max_time_s=120.0),
        replace(spec, timed=False),
        replace(spec, resume=True),
    ):
        assert measure_pace(without, planner, placement) is None
    hopeless = make_spec(tmp_path, HOPELESS, tiny, store, trials=None, max_time_s=1200.0)
    assert measure_pace(hopeless, replace(planner, budget_gib=0.01), placement) is None
