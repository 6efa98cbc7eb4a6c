"""Search spaces: what a file may say, and that its faults show before any trial starts."""

import pickle
from pathlib import Path

import optuna
import pytest

from ossnet.config import Config
from ossnet.data import Store
from ossnet.distributed.tuning.feasibility import estimate_feasibility
from ossnet.distributed.tuning.search_space import (
    Space,
    check_space,
    first_points,
    sample_configs,
    sample_points,
)
from ossnet.errors import UserError
from ossnet.models import PRESETS, OccupancyConfig, UNetConfig
from ossnet.planning.configure.fingerprint import Fingerprint
from ossnet.planning.configure.planner import Planner
from ossnet.planning.configure.recipe import Recipe

RECIPES: tuple[Recipe, ...] = ("auto", "paper")
SPACES = sorted((Path(__file__).parents[3] / "search_spaces").glob("*.py"))


def space(folder: Path, body: str) -> Space:
    path = folder / "mine.py"
    path.write_text(body)
    return Space(path)


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_our_own_spaces_hold_for_every_recipe(path: Path, store: Store) -> None:
    for recipe in RECIPES:
        planner = Planner(dataset=Fingerprint.of(store), recipe=recipe)
        check_space(Space(path), planner, store)
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
        found = {planner.resolve(changes=Space(path)(study.ask())).config.to_json() for _ in range(8)}
        assert len(found) > 4


def test_the_default_space_has_every_network_and_tries_the_main_ones_first() -> None:
    default = Space(SPACES[0].with_name("default.py"))
    first = [point["network"] for point in first_points(default, seed=0)]
    assert first[:4] == ["feature-query-patch", "unet-3d", "feature-pyramid", "oss-net-c"]
    drawn = {changes["model"] for _, changes in sample_points(default, count=200)}
    assert drawn == set(PRESETS) - {"residual-encoder-unet"}


def test_a_space_may_choose_the_network(tiny: Config, planner: Planner) -> None:
    config = planner.resolve(changes={"model": "unet-3d", "model.channels": (2, 4)}).config
    assert isinstance(config.model, UNetConfig)
    assert config.model.channels == (2, 4)
    assert (config.model.in_channels, config.model.classes) == (4, 3)
    assert config.training == tiny.training
    narrow = planner.resolve(changes={"model.decoder_width": 8}).config
    assert isinstance(narrow.model, OccupancyConfig)
    assert narrow == tiny.replace({"model.decoder_width": 8}).resolve_for(planner.dataset)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("def space(t): return {'model.decoder_widht': 8}", "did you mean 'model.decoder_width'"),
        ("def space(t): return {'model': 'oss-net-x'}", "did you mean 'oss-net-"),
        (
            "def space(t): return {'model.patch_edge': t.suggest_int('p', 3, 10)}",
            "patch_edge: expected an odd",
        ),
        ("def space(t): return {'training.batch_size': 64}", "at most the 8 training cases"),
        (
            "def space(t): return {'model.decoder_width': 'wide'}",
            "model.decoder_width: expected a whole number",
        ),
        (
            "def space(t): return t.suggest_int('x', 0, 'y')",
            "expected space(trial) to return, found TypeError",
        ),
        (
            "def space(t): return None",
            "expected space(trial) to return a dictionary of dotted paths, found None",
        ),
        ("def spaces(t): return {}", "expected a function space(trial), found none"),
        ("import nothing_of_that_name", "found ModuleNotFoundError"),
        ("def space(t:", "found SyntaxError"),
        (
            "PRIOR = {'w': 9}\ndef space(t): return {'model.decoder_width': t.suggest_int('w', 2, 6)}",
            "mine.py: PRIOR: expected w from 2 to 6, found 9",
        ),
        (
            (
                "PRIOR = {'w': 9}\n"
                "def space(t): return {'model.decoder_width': t.suggest_categorical('w', [2, 6])}"
            ),
            "mine.py: PRIOR: expected w one of 2, 6, found 9",
        ),
        (
            "PRIOR = {'wide': 3}\ndef space(t): return {'model.decoder_width': t.suggest_int('w', 2, 6)}",
            "mine.py: PRIOR: expected a known parameter, found 'wide'; did you mean 'w'?",
        ),
        ("PRIOR = [1]\ndef space(t): return {}", "expected PRIOR to be a dictionary"),
        ("def space(t): return {'optimizer.name': 'x2'}", "optimizer.name: expected a field with numbers"),
        (
            # hidden behind a choice that comes one time in eight
            "def space(t): return {'model.nonsense': 1} if t.suggest_int('x', 1, 8) == 5 else {}",
            "expected a known path, found 'model.nonsense'",
        ),
    ],
)
def test_faults_are_one_line(
    body: str, expected: str, planner: Planner, store: Store, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as fault:
        check_space(space(tmp_path, body), planner, store)
    message = str(fault.value)
    assert "mine.py" in message
    assert expected in message
    assert "\n" not in message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.py: expected a Python file .* found no file"):
        Space(tmp_path / "none.py")


def test_a_space_survives_plain_pickle(tmp_path: Path) -> None:
    original = space(
        tmp_path, "POINTS_TO_EVALUATE = [{'w': 8}]\ndef space(t): return {'model.decoder_width': 8}"
    )
    copy = pickle.loads(pickle.dumps(original))
    assert copy.path == original.path
    assert copy.points_to_evaluate == [{"w": 8}]
    assert copy(optuna.create_study().ask()) == {"model.decoder_width": 8}


CONSTRAINTS = {
    "half": "if trial.suggest_categorical('a', [0, 1]): raise optuna.TrialPruned()",
    "rare": "if trial.suggest_int('a', 0, 19) != 7: raise optuna.TrialPruned('only seven')",
    "only the points": "if trial.suggest_float('a', 0, 1) != 0.25: raise optuna.exceptions.TrialPruned",
}


@pytest.mark.parametrize(
    ("body", "point"), zip(CONSTRAINTS.values(), (0, 7, 0.25), strict=True), ids=list(CONSTRAINTS)
)
def test_constraints_are_drawn_again(
    body: str, point: float, planner: Planner, store: Store, tmp_path: Path
) -> None:
    """TrialPruned in a space: in the check, in a plan, and in the estimate of what fits a budget."""
    constrained = space(
        tmp_path,
        f"import optuna\nPOINTS_TO_EVALUATE = [{{'a': {point}}}]\n"
        f"def space(trial):\n    {body}\n    return {{'model.decoder_width': 16}}",
    )
    check_space(constrained, planner, store)
    planned = sample_configs(constrained.path, planner, count=4)
    assert [each.config.model.decoder_width for _, each in planned] == [16] * (1 if point == 0.25 else 4)
    estimate = estimate_feasibility(constrained, planner, budget_gib=8)
    assert estimate.fraction == 1
    assert estimate.sampled == 1  # all that is allowed


@pytest.mark.parametrize("points", ["[]", "[{'a': 1}]"])
def test_a_space_that_forbids_everything(points: str, planner: Planner, store: Store, tmp_path: Path) -> None:
    body = (
        f"import optuna\nPOINTS_TO_EVALUATE = {points}\n"
        "def space(trial):\n    if trial.suggest_int('a', 1, 2): raise optuna.TrialPruned\n    return {}"
    )
    line = r"mine\.py: expected suggestions that space\(trial\) allows, found TrialPruned for each of 500"
    forbidding = space(tmp_path, body)
    with pytest.raises(UserError, match=line):
        check_space(forbidding, planner, store)
    with pytest.raises(UserError, match=line):
        sample_configs(forbidding.path, planner, count=4)
    with pytest.raises(UserError, match=line):
        estimate_feasibility(forbidding, planner, budget_gib=8)


def test_a_mistake_after_a_constraint_is_found(planner: Planner, store: Store, tmp_path: Path) -> None:
    body = (
        "import optuna\ndef space(trial):\n"
        "    if trial.suggest_int('a', 0, 19) != 7: raise optuna.TrialPruned\n"
        "    return {'model.nonsense': 1}"
    )
    with pytest.raises(
        UserError, match=r"mine\.py: configuration: expected a known path, found 'model\.nonsense'"
    ):
        check_space(space(tmp_path, body), planner, store)


def test_points_near_a_prior_come_first(tmp_path: Path) -> None:
    body = (
        "PRIOR = {'rate': 1e-3, 'width': 8}\n"
        "def space(trial):\n"
        "    trial.suggest_float('rate', 1e-5, 1e-1, log=True)\n"
        "    trial.suggest_int('other', 0, 1000)\n"
        "    return {'model.decoder_width': trial.suggest_int('width', 2, 34, step=2)}"
    )
    known = space(tmp_path, body)
    points = [point for seed in range(50) for point in first_points(known, seed=seed)]
    assert points[0] == {"rate": 1e-3, "width": 8}
    near = [point for point in points if "other" in point]
    assert len(near) == 100
    assert all(point["width"] % 2 == 0 and 2 <= point["width"] <= 34 for point in near)
    assert sum(abs(point["width"] - 8) <= 8 for point in near) > 85
    assert sum(1e-4 <= point["rate"] <= 1e-2 for point in near) > 85
    assert len({point["other"] for point in near}) > 50
    assert first_points(known, seed=3) == first_points(known, seed=3) != first_points(known, seed=4)
