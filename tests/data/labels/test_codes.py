"""Regions as codes, and codes as label maps: what is written says of every region what was decided."""

from itertools import permutations
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossnet.data import Task, read_source
from ossnet.data.labels.presets import choose_regions
from ossnet.data.labels.scheme import ClassScheme

BRATS = {"necrosis": 1, "edema": 2, "enhancing": 4}
REGIONS = {"WT": ("necrosis", "edema", "enhancing"), "TC": ("necrosis", "enhancing"), "ET": ("enhancing",)}


def task(labels: dict[str, int], regions: dict[str, tuple[str, ...]]) -> Task:
    return Task(modalities=("MR",), labels=labels, regions=regions)


@st.composite
def labels(draw: st.DrawFn) -> dict[str, int]:
    values = draw(st.lists(st.integers(1, 400), min_size=1, max_size=6, unique=True))
    return {f"label-{value}": value for value in values}


@st.composite
def nested(draw: st.DrawFn) -> Task:
    """Each region inside the one before, declared in any order."""
    names = draw(labels())
    order = draw(st.permutations(list(names)))
    starts = draw(st.lists(st.integers(0, len(order) - 1), min_size=1, max_size=8, unique=True))
    chain = {f"region-{start}": tuple(order[start:]) for start in starts}
    return task(names, {name: chain[name] for name in draw(st.permutations(list(chain)))})


@st.composite
def any_regions(draw: st.DrawFn) -> Task:
    names = draw(labels())
    sets = st.lists(st.sampled_from(list(names)), min_size=1, unique=True).map(tuple)
    chosen = draw(st.lists(sets, min_size=1, max_size=5))
    return task(names, {f"region-{index}": each for index, each in enumerate(chosen)})


def label_map(chosen: Task) -> np.ndarray:
    """Every voxel value that the task defines."""
    return np.array([0, *chosen.labels.values()]).reshape(1, 1, -1)


def inside(chosen: Task, values: np.ndarray, region: str) -> np.ndarray:
    return np.isin(values, [chosen.labels[label] for label in chosen.regions[region]])


@given(nested() | any_regions())
def test_codes_say_of_every_label_in_which_regions_it_lies(chosen: Task) -> None:
    values = label_map(chosen)
    codes = chosen.codes(chosen.encode(values))
    for index, region in enumerate(chosen.class_names):
        found = chosen.scheme.in_class(codes, index)
        np.testing.assert_array_equal(found, inside(chosen, values, region))


@given(nested() | any_regions())
def test_a_label_map_comes_back_with_its_regions(chosen: Task) -> None:
    values = label_map(chosen)
    codes = chosen.codes(chosen.encode(values))
    back = chosen.decode(codes)
    for region in chosen.regions:
        np.testing.assert_array_equal(inside(chosen, back, region), inside(chosen, values, region))
    np.testing.assert_array_equal(chosen.codes(chosen.encode(back)), codes)
    distinct = np.array([np.count_nonzero(codes == code) == 1 for code in codes.ravel()]) & (
        codes.ravel() > 0
    )
    np.testing.assert_array_equal(back.ravel()[distinct], values.ravel()[distinct])


@given(nested())
def test_whatever_is_decided_of_nested_regions_the_innermost_is_written(chosen: Task) -> None:
    assert chosen.nested
    codes = np.arange(len(ClassScheme(chosen.classes, overlapping=True).membership), dtype=np.uint8).reshape(
        1, 1, -1
    )
    again = chosen.codes(chosen.encode(chosen.decode(codes)))
    np.testing.assert_array_equal(chosen.display_class(again), chosen.display_class(codes))
    assert (chosen.decode(codes)[codes > 0] > 0).all()


@pytest.mark.parametrize("order", list(permutations(REGIONS)))
def test_brats_is_written_by_the_usual_rule_in_whatever_order_it_was_declared(order: tuple[str, ...]) -> None:
    chosen = task(BRATS, {name: REGIONS[name] for name in order})
    bits = {name: 1 << order.index(name) for name in order}

    def written(*regions: str) -> int:
        return int(chosen.decode(np.array([[[sum(bits[name] for name in regions)]]], np.uint8)).item())

    assert written() == 0
    assert written("WT") == 2
    assert written("WT", "TC") == 1
    assert written("WT", "TC", "ET") == 4
    assert written("TC") == 1  # what no label means
    assert written("ET") == written("WT", "ET") == 4


def test_regions_that_share_a_part_are_written_as_the_labels_say() -> None:
    chosen = task({"a": 1, "b": 2, "c": 3}, {"left": ("a", "b"), "right": ("b", "c")})
    assert not chosen.nested
    assert chosen.decode(np.array([[[0, 1, 2, 3]]], np.uint8)).tolist() == [[[0, 1, 3, 2]]]


def test_a_region_without_a_label_of_its_own_is_written_as_its_first() -> None:
    chosen = task({"a": 1, "b": 2}, {"whole": ("a", "b"), "one": ("a",), "two": ("b",)})
    assert chosen.nested
    assert chosen.decode(np.array([[[1, 2, 3, 4, 5]]], np.uint8)).tolist() == [[[1, 1, 1, 2, 2]]]


def test_one_region_is_a_class_like_any_other() -> None:
    chosen = task(BRATS, {"core": ("necrosis", "enhancing")})
    assert (chosen.classes, chosen.class_names, chosen.overlapping) == (1, ("core",), False)
    codes = chosen.codes(np.array([[[0, 1, 2, 3]]], np.uint8))
    assert codes.tolist() == [[[0, 1, 0, 1]]]
    assert chosen.decode(codes).tolist() == [[[0, 1, 0, 1]]]


@given(st.integers(1, 8), st.booleans())
def test_every_code_is_distinct(classes: int, overlapping: bool) -> None:
    table = ClassScheme(classes, overlapping).membership
    assert table.shape == ((2**classes if overlapping else classes + 1), classes)
    assert len(np.unique(table, axis=0)) == len(table)
    assert not table[0].any()


@pytest.mark.parametrize(
    ("folder", "label"), [("brats2021", "*/*_seg.nii.gz"), ("msd_brain_slab", "labelsTr/*.nii.gz")]
)
def test_real_tumours_come_back_voxel_by_voxel(folder: str, label: str, shared: Path) -> None:
    path = shared / "data" / folder
    if not path.is_dir():
        pytest.skip(f"no {path.name}")
    source = read_source(path)
    chosen = task(source.labels, choose_regions("brats-regions", (), source.labels))
    values = np.asarray(nibabel.load(next(path.glob(label))).dataobj).astype(np.int16)
    codes = chosen.codes(chosen.encode(values))
    np.testing.assert_array_equal(chosen.decode(codes), values)
    voxels = [np.count_nonzero(chosen.scheme.in_class(codes, index)) for index in range(3)]
    assert voxels[0] == np.count_nonzero(values)
    assert voxels[0] > voxels[1] > voxels[2] == np.count_nonzero(values == values.max()) > 0
