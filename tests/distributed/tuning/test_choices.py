"""Choices of any kind: each comes back as the space's own object, from a study's file too."""

import enum
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ossnet.data import Store
from ossnet.distributed._optuna import reopen_trial
from ossnet.distributed.tuning.choices import SpaceTrial, stored_choice, stored_choices
from ossnet.distributed.tuning.search_space import Space, check_space, sample_configs, sample_points
from ossnet.errors import UserError
from ossnet.planning.configure.planner import Planner


class Size(enum.Enum):
    SMALL = (8, 16)
    LARGE = (16, 32)


def activation() -> None:
    """A choice that is a function."""


ANY_KIND: list[list[Any]] = [
    [(8, 16), (4, 8, 16)],
    [[8, 16], (8, 16), ((8,), (16,)), ((8, (16, None)),)],
    [None, True, 1, 1.0, False, 0, "1", "None"],
    [0.1, 1e-300, math.inf, -0.0, 3],
    [{"a": (1, 2)}, {"a": [1, 3]}, {1: 2}, {(1, 2): 3}],
    [Size.SMALL, Size.LARGE, activation, print],
    [*np.arange(3), np.float32(0.1), np.array([1, 2])],
    [frozenset({"a", "b"}), frozenset({"b"}), Path("a"), b"bytes"],
    ["[8, 16]", (8, 16)],
    ["Größe", "\ud800", ""],
]


def same(one: Any, other: Any) -> bool:
    return one is other or (type(one) is type(other) and repr(one) == repr(other))


@pytest.mark.parametrize("choices", ANY_KIND, ids=range(len(ANY_KIND)))
def test_each_choice_comes_back_from_a_study_s_file(choices: list[Any], tmp_path: Path) -> None:
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'study.db'}")
    study = optuna.create_study(storage=storage)
    for choice, stored in zip(choices, stored_choices(choices), strict=True):
        study.enqueue_trial({"x": stored})
        trial = study.ask()
        assert same(SpaceTrial(trial).suggest_categorical("x", choices), choice)
        again = optuna.load_study(study_name=study.study_name, storage=storage)
        reopened = reopen_trial(again, again.trials[-1])
        assert same(SpaceTrial(reopened).suggest_categorical("x", choices), choice)
        assert reopened.params == {"x": stored}


def test_plain_choices_are_stored_as_they_are() -> None:
    assert stored_choices([8, 16]) == [8, 16]
    assert stored_choices([None, True, "a", 0.5]) == [None, True, "a", 0.5]
    assert stored_choices([8, 8]) == [8, 8]
    assert stored_choices([(8, 16), [4]]) == ["[8, 16]", "[4]"]
    assert stored_choices([1, True, 1.0]) == [1, "true #1", "1.0 #2"]


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
NESTED = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.lists(inner).map(tuple), max_leaves=5
)


@given(st.lists(NESTED, min_size=1, max_size=6))
@settings(deadline=None, max_examples=40)
def test_different_choices_stay_different(choices: list[Any]) -> None:
    stored = stored_choices(choices)
    distribution = optuna.distributions.CategoricalDistribution(stored)
    as_read = optuna.distributions.json_to_distribution(
        optuna.distributions.distribution_to_json(distribution)
    )
    assert as_read == distribution
    for choice, value in zip(choices, stored, strict=True):
        found = choices[int(distribution.to_internal_repr(value))]
        assert repr(found) == repr(choice)


def test_what_is_stored_is_the_same_in_every_process() -> None:
    script = (
        "from ossnet.distributed.tuning.choices import stored_choice\n"
        "print(stored_choice(frozenset('abcdef')), stored_choice(object()), stored_choice(lambda: 0))"
    )
    runs = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
    assert stored_choice(np.int64(8)) == 8


def space(folder: Path, body: str) -> Space:
    path = folder / "mine.py"
    path.write_text(body)
    return Space(path)


TUPLES = """
POINTS_TO_EVALUATE = [{"channels": (4, 8, 16)}, {"channels": [8, 16]}]

def space(trial):
    return {"model.encoder_channels": trial.suggest_categorical("channels", [(8, 16), (4, 8, 16)])}
"""


def test_a_space_of_tuples(planner: Planner, store: Store, tmp_path: Path) -> None:
    tuples = space(tmp_path, TUPLES)
    check_space(tuples, planner, store)
    points = list(sample_points(tuples, count=20, with_first=True))
    assert points[0] == ({"channels": "[4, 8, 16]"}, {"model.encoder_channels": (4, 8, 16)})
    assert points[1] == ({"channels": "[8, 16]"}, {"model.encoder_channels": (8, 16)})
    assert {changes["model.encoder_channels"] for _, changes in points} == {(8, 16), (4, 8, 16)}
    names = {name for name, _ in sample_configs(tuples.path, planner, count=10)}
    assert names == {"oss-net-c channels=[8, 16]", "oss-net-c channels=[4, 8, 16]"}


@pytest.mark.parametrize(
    "body",
    [
        "def space(t): return {'model.decoder_width': t.suggest_categorical('w', np.array([8, 16]))}",
        "def space(t): return {'optimizer.learning_rate': t.suggest_categorical('r', [np.float32(0.1), 1])}",
        "def space(t): return t.suggest_categorical('all', [{'model.decoder_width': 8}, {}])",
        "def space(t): return {'sampling.points': 2 ** np.int64(t.suggest_int('p', 5, 6))}",
        "def space(t): return {'training.max_time_s': t.suggest_categorical('s', [None, 60.0])}",
        "def space(t): return {'model.decoder_width': t.suggest_categorical('w', [{'w': (8,)}])['w'][0]}",
    ],
)
def test_other_kinds_of_choices(body: str, planner: Planner, store: Store, tmp_path: Path) -> None:
    check_space(space(tmp_path, f"import numpy as np\n{body}"), planner, store)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            "def space(t): return {'model.decoder_width': t.suggest_categorical('w', [(8,), 16])}",
            "mine.py: model.decoder_width: expected a whole number",
        ),
        ("def space(t): return t.suggest_categorical('w', [])", "found ValueError: The `choices` must"),
        ("def space(t): return t.suggest_categorical('w', 5)", "found TypeError"),
        (
            "POINTS_TO_EVALUATE = [{'w': (8, 8)}]\ndef space(t): return t.suggest_categorical('w', [(8,)])",
            "found ValueError: '[8, 8]' not in",
        ),
        (
            (
                "POINTS_TO_EVALUATE = [{'v': 8}]\n"
                "def space(t): return {'model.decoder_width': t.suggest_int('w', 8, 9)}"
            ),
            "mine.py: POINTS_TO_EVALUATE: expected names out of w, found 'v'",
        ),
        ("def space(t): return {'model': t.suggest_int('w', 8, 9)}", "expected a known network, found"),
        (
            "POINTS_TO_EVALUATE = {'w': 8}\ndef space(t): return {}",
            "mine.py: expected POINTS_TO_EVALUATE to be a list of dictionaries",
        ),
        (
            "import random\ndef space(t): return {'optimizer.learning_rate': random.random()}",
            "expected space(trial) to return the same for the same suggestions",
        ),
        (
            "def space(t): return t.suggest_categorical('w', [{}] * t.suggest_int('m', 1, 2))",
            "dynamic value space",
        ),
        ("def space(t): raise SystemExit(0)", "expected space(trial) to return, found SystemExit: 0"),
    ],
)
def test_mistakes_are_one_line(
    body: str, expected: str, planner: Planner, store: Store, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as fault:
        check_space(space(tmp_path, body), planner, store)
    message = str(fault.value)
    assert expected in message
    assert "mine.py" in message
    assert "\n" not in message
