"""Components below a size go, whatever the classes are, and nothing else does."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ossnet.data import Task
from ossnet.errors import UserError
from ossnet.inference import Predictor
from ossnet.inference.components import FILE, ComponentFilter, label_components, read_components

EXCLUSIVE = Task(("MRI",), {"one": 1, "two": 2})
LABELS = {"edema": 1, "core": 2, "inner": 3}
REGIONS = {"all": tuple(LABELS), "tumor": ("core", "inner"), "inner": ("inner",)}
NESTED = Task(("MRI",), LABELS, regions=REGIONS)
SHAPE = (6, 5, 7)


def rule(task: Task, *sizes: float) -> ComponentFilter:
    named = dict(zip(task.class_names, sizes, strict=True))
    return ComponentFilter(named, "validation", 4, named, named, named)


@given(
    indices=arrays(np.uint8, SHAPE, elements=st.integers(0, 3)),
    sizes=st.tuples(*[st.integers(0, 6)] * 3),
    regions=st.booleans(),
)
def test_no_small_component_is_left_and_nothing_is_added(
    indices: np.ndarray, sizes: tuple[int, int, int], regions: bool
) -> None:
    task = NESTED if regions else replace(NESTED, regions={})
    codes = task.codes(indices)
    found = rule(task, *[size / 1000 for size in sizes]).apply(codes, task, (1.0, 1.0, 1.0))
    for index, size in enumerate(sizes):
        before, after = task.scheme.in_class(codes, index), task.scheme.in_class(found, index)
        assert not (after & ~before).any()
        _, voxels = label_components(after)
        assert regions or (voxels[1:] >= size).all()  # an outer region may cut an inner one afterwards
        components, voxels = label_components(before)
        if not regions:
            np.testing.assert_array_equal(after, before & (voxels >= size)[components])
    if regions:  # what lay inside a region still does
        whole, tumor, inner = (task.scheme.in_class(found, index) for index in range(3))
        assert not (inner & ~tumor).any()
        assert not (tumor & ~whole).any()


def test_sizes_are_volumes_on_any_grid() -> None:
    codes = np.zeros(SHAPE, np.uint8)
    codes[0, 0, :3], codes[4, 4, 4] = 1, 2
    halves = rule(EXCLUSIVE, 0.0061, 0.0).apply(codes, EXCLUSIVE, (1.0, 2.0, 1.0))
    assert (halves == np.where(codes == 1, 0, codes)).all()  # three voxels of 0.002 ml
    assert (rule(EXCLUSIVE, 0.0059, 0.0).apply(codes, EXCLUSIVE, (1.0, 2.0, 1.0)) == codes).all()


def test_a_checkpoint_s_rule_is_read_and_followed(phantom_checkpoint: Path, tmp_path: Path) -> None:
    task = Predictor.from_checkpoint(phantom_checkpoint, device="cpu").task
    assert read_components(tmp_path, task) is None
    wanted = rule(task, *[0.25 for _ in task.class_names])
    wanted.save(tmp_path)
    assert read_components(tmp_path, task) == wanted


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"one": 0.1}, "a volume for each of one, two"),
        ({"one": 0.1, "two": -1}, "a volume for each of one, two"),
        ({"one": 0.1, "two": float("inf")}, "a volume for each of one, two"),
        ("none", "expected fitted component sizes"),
    ],
)
def test_a_damaged_rule_is_one_line(sizes: object, message: str, tmp_path: Path) -> None:
    rule(EXCLUSIVE, 0.1, 0.1).save(tmp_path)
    values = json.loads((tmp_path / FILE).read_text()) | {"smallest_ml": sizes}
    (tmp_path / FILE).write_text(json.dumps(values))
    with pytest.raises(UserError, match=message):
        read_components(tmp_path, EXCLUSIVE)
