"""The searches that are compared, each told of trials that are not trained."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

from ossnet.config import Config
from ossnet.data import Store
from ossnet.distributed.benchmark.method import CpuMeter, Method, StudyTask
from ossnet.distributed.benchmark.ours import OurSearch
from ossnet.distributed.benchmark.search import METHODS, _constructor
from ossnet.distributed.tuning.search_space import Space
from ossnet.metric_names import EPOCH, FINAL, MEMORY, SHARE, VAL_DICE
from ossnet.planning.allocation import Allocation
from ossnet.planning.configure.planner import Planner
from ossnet.training.checkpoint import load_state, save_checkpoint

SPACE = """
POINTS_TO_EVALUATE = [{"blocks": 1, "width": 9, "rate": 1e-3}]
def space(trial):
    changes = {
        "model.decoder_blocks": trial.suggest_categorical("blocks", [1, 2]),
        "model.decoder_width": trial.suggest_int("width", 8, 24),
        "optimizer.learning_rate": trial.suggest_float("rate", 1e-4, 1e-2, log=True),
    }
    if changes["model.decoder_blocks"] == 2:
        changes["sampling.points"] = 2 ** trial.suggest_int("log2_points", 4, 8, step=2)
    return changes
"""
PLAN = Allocation(trials=40, trial_s=30.0, rungs=(0.25, 0.5), search_s=900.0, refit_s=0.0, closing_s=0.0)
MARKS = {
    "ossnet": pytest.mark.slow,  # they predict the memory of what they suggest
    "optuna-fitted": pytest.mark.slow,
    "syne-tune": pytest.mark.skipif(
        importlib.util.find_spec("statsmodels") is None, reason="needs ossnet[rivals]"
    ),
}


def report(share: float, dice: float, memory_gib: float = 0.1) -> dict[str, float]:
    return {EPOCH: 1.0, SHARE: share, VAL_DICE: dice, MEMORY: memory_gib, FINAL: float(share == 1)}


def train(method: Method, dice: float) -> bool:
    """Whether a trial with this Dice comes to its end."""
    result = report(0.25, dice)
    for share in (0.25, 0.5, 1.0):
        result = report(share, dice)
        if not method.report(result) and share < 1:
            method.end(result)
            return False
    method.end(result)
    return True


@pytest.mark.parametrize("name", [pytest.param(name, marks=MARKS.get(name, ())) for name in METHODS])
def test_a_method_suggests_from_the_space_and_stops_what_falls_behind(
    name: str, planner: Planner, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(SPACE)
    task = StudyTask(Space(tmp_path / "mine.py"), store, planner, 0.5, PLAN, 3, tmp_path / "study")
    method = _constructor(name)(task, CpuMeter())
    suggested = list[Config]()
    for number in range(12):
        config = method.suggest()
        assert config is not None
        suggested.append(config)
        if number % 4 == 3:
            method.end({MEMORY: 0.75})
        elif number == 10:
            assert not train(method, 0.01)
        else:
            train(method, 0.5 + number / 100)
    first = suggested[0]
    assert (first.model.decoder_blocks, first.model.decoder_width) == (1, 9)  # type: ignore[union-attr]
    assert first.optimizer.learning_rate == 1e-3
    for config in suggested:
        assert (config.training.max_time_s, config.training.validate_at) == (30.0, (0.25, 0.5))
        assert 8 <= config.model.decoder_width <= 24  # type: ignore[union-attr]
        if config.model.decoder_blocks == 2:  # type: ignore[union-attr]
            assert config.sampling.points in (16, 64, 256)
    different = {config.to_json() for config in suggested}
    assert len(different) > 8
    again = _constructor(name)(replace(task, folder=tmp_path / "again"), CpuMeter()).suggest()
    assert again == first


@pytest.mark.slow
def test_ours_trains_its_best_network_on_in_the_end(planner: Planner, store: Store, tmp_path: Path) -> None:
    """From the weights of its best validation, for what is left of the time, once."""
    (tmp_path / "mine.py").write_text(SPACE)
    task = StudyTask(Space(tmp_path / "mine.py"), store, planner, 0.5, PLAN, 3, tmp_path / "study")
    meter = CpuMeter()
    method = OurSearch(task, meter)
    configs = list[Config]()
    for number, dice in enumerate((0.5, 0.7, 0.6)):
        config = method.suggest()
        assert config is not None
        configs.append(config)
        save_checkpoint(tmp_path / str(number), network=nn.Linear(1, 1), documents={}, state={"dice": dice})
        method.report(report(1.0, dice), tmp_path / str(number))
        method.end(report(1.0, dice))
    meter._began -= 610.0  # two thirds of the time are over
    last = method.suggest()
    assert last is not None
    assert last.model == configs[1].model
    assert last.training.max_time_s == pytest.approx(290, abs=30)
    assert last.training.initialize_from is not None
    assert load_state(Path(last.training.initialize_from))["dice"] == 0.7
    assert method.report(report(0.5, 0.1), None)  # it is compared with nothing
    method.end(report(1.0, 0.8))
    assert method.suggest() is None
