import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ossnet.data import Task
from ossnet.errors import UserError

BRATS = Task(modalities=("FLAIR",), labels={"necrosis": 1, "edema": 2, "enhancing": 4})


@given(arrays(np.int16, (3, 4, 5), elements=st.sampled_from([0, 1, 2, 4])))
def test_encoding_is_dense_and_decoding_gives_the_values_back(values):
    indices = BRATS.encode(values)
    assert indices.dtype == np.uint8
    assert set(np.unique(indices)) <= {0, 1, 2, 3}
    np.testing.assert_array_equal(BRATS.decode(indices), values)


def test_classes_follow_the_order_of_the_labels_not_of_their_values():
    task = Task(modalities=("CT",), labels={"tumour": 7, "liver": 2})
    np.testing.assert_array_equal(task.encode(np.array([[[0, 2, 7]]])), [[[0, 2, 1]]])


def test_a_value_that_is_not_declared_is_named():
    with pytest.raises(UserError, match=r"expected label values \[0, 1, 2, 4\], found 3, 255 too"):
        BRATS.encode(np.array([[[0, 3, 255]]]))


def test_many_strange_values_are_counted_not_listed():
    with pytest.raises(UserError, match="found 5, 6, 7, 8, 9 and 991 others"):
        BRATS.encode(np.arange(5, 1001).reshape(1, 1, -1))


def test_foreground_merges_every_label():
    task = Task(modalities=("FLAIR",), labels={"foreground": 1}, target="foreground")
    np.testing.assert_array_equal(task.encode(np.array([[[0, 1, 2, 4]]])), [[[0, 1, 1, 1]]])


def test_values_above_255_are_exported():
    task = Task(modalities=("CT",), labels={"rib": 300})
    assert task.decode(np.ones((1, 1, 1), np.uint8)).tolist() == [[[300]]]


def test_json_keeps_the_task_and_the_order_of_its_labels():
    task = Task(
        modalities=("CT",), labels={"tumour": 2, "liver": 1}, normalization="ct", spacing=(1.0, 1.0, 2.5)
    )
    again = Task.from_dict(json.loads(json.dumps(task.to_dict())))
    assert again == task
    assert list(again.labels) == ["tumour", "liver"]


def test_merged_values_are_read_as_their_label_and_written_as_its_own():
    task = Task(
        modalities=("MR",),
        labels={"tumour": 1, "enhancing": 4},
        merged={"tumour": (2,), "enhancing": (3,), "background": (255,)},
    )
    indices = task.encode(np.array([[[0, 1, 2, 3, 4, 255]]], np.int16))
    assert indices.tolist() == [[[0, 1, 1, 2, 2, 0]]]
    assert task.decode(indices).tolist() == [[[0, 1, 1, 4, 4, 0]]]
    with pytest.raises(UserError, match=r"expected label values \[0, 1, 2, 3, 4, 255\], found 5 too"):
        task.encode(np.array([[[5]]]))


def test_what_is_declared_background_is_no_foreground():
    task = Task(("MR",), {"foreground": 1}, target="foreground", merged={"background": (255,)})
    assert task.encode(np.array([[[0, 1, 2, 255]]], np.int16)).tolist() == [[[0, 1, 1, 0]]]


def test_json_keeps_regions_and_their_order():
    task = Task(
        ("MR",), {"a": 1, "b": 2}, regions={"two": ("b",), "all": ("a", "b")}, merged={"background": (255,)}
    )
    again = Task.from_dict(json.loads(json.dumps(task.to_dict())))
    assert again == task
    assert again.class_names == ("two", "all")
    assert again.overlapping


@pytest.mark.parametrize(
    ("regions", "expected"),
    [
        ({"core": ["c"]}, "regions.core: expected labels among a, b, found c"),
        ({"core": []}, "regions.core: expected labels among a, b, found none"),
        ({f"r{index}": ["a"] for index in range(9)}, "regions: expected at most 8, found 9"),
    ],
)
def test_regions_that_cannot_be_trained(regions, expected):
    values = Task(("MR",), {"a": 1, "b": 2}).to_dict()
    with pytest.raises(UserError, match=r"^task\.json: ") as caught:
        Task.from_dict(values | {"regions": regions}, "task.json")
    assert expected in str(caught.value)
