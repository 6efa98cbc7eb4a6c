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


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [
        ({"a": 1, "b": 255}, np.uint8),
        ({"a": 1, "b": 256}, np.int16),
        ({"a": 3, "b": 40000}, np.int32),
        ({"a": 1, "b": 70000}, np.int32),
        ({"ignored": -1, "b": 2}, np.int16),
        ({"a": -(2**31), "b": 2**31 - 1}, np.int32),
        ({"a": -40000}, np.int32),
        ({str(value): value for value in range(1, 256)}, np.uint8),
    ],
)
def test_every_value_of_32_bits_is_written_as_it_was_read(labels, dtype):
    task = Task(("MRI",), labels)
    values = np.array([[[0, *labels.values()]]], np.int64)
    decoded = task.decode(task.encode(values))
    np.testing.assert_array_equal(decoded, values)
    assert decoded.dtype == dtype


@given(st.sets(st.integers(-(2**31), 2**31 - 1).filter(bool), min_size=1, max_size=255))
def test_any_values_come_back(values):
    task = Task(("MRI",), {f"label {value}": value for value in values})
    given_values = np.array([[[0, *values]]], np.int64)
    np.testing.assert_array_equal(task.decode(task.encode(given_values)), given_values)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (
            {str(value): value for value in range(1, 257)},
            "labels: expected at most 255, found 256",
        ),
        ({"a": 2**31}, "labels.a: expected a value of 32 bits, as label maps hold, found 2147483648"),
        ({"a": -(2**31) - 1}, "labels.a: expected a value of 32 bits"),
        ({"a": 0, "b": 1}, "labels.a: expected a value of its own, found 0, which is that of background too"),
        ({"a": 1, "b": 1}, "labels.b: expected a value of its own, found 1, which is that of a too"),
    ],
)
def test_labels_that_cannot_be_told_apart_are_refused_when_the_task_is_made(labels, expected):
    with pytest.raises(UserError) as caught:
        Task(("MRI",), labels)
    assert expected in str(caught.value)


def test_a_merged_value_that_is_another_label_is_refused():
    with pytest.raises(UserError, match="expected a value of its own, found 2, which is that of b too"):
        Task(("MRI",), {"a": 1, "b": 2}, merged={"a": (2,)})


def test_more_labels_than_a_byte_holds_are_read_as_one():
    labels = {f"r{value}": value for value in range(1, 301)}
    task = Task(("MRI",), {"foreground": 1}, target="foreground", merged={"background": (999,)})
    one = task.reading_as_one(labels)
    assert one.encode(np.array([[[0, 1, 256, 300, 999]]])).tolist() == [[[0, 1, 1, 1, 0]]]
    with pytest.raises(UserError, match=r"values \[0, 1, 2, ..., 999\], 302 of them, found 301"):
        one.encode(np.array([[[301]]]))


def test_negative_labels_are_foreground_as_others_are():
    task = Task(("MRI",), {"foreground": 1}, target="foreground")
    assert task.encode(np.array([[[0, -1, 2]]])).tolist() == [[[0, 1, 1]]]
