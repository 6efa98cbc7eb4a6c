"""Choosing what to learn: presets whatever labels are called, regions and labels of one's own, mistakes."""

import pytest

from ossnet.data.labels.presets import choose_regions, map_labels
from ossnet.errors import UserError

BRATS_2021 = {"necrosis": 1, "edema": 2, "enhancing": 4}
BRATS_2023 = {"necrosis": 1, "edema": 2, "enhancing": 3}
MSD = {"edema": 1, "non-enhancing-tumor": 2, "enhancing-tumour": 3}


@pytest.mark.parametrize(
    ("labels", "edema", "enhancing"),
    [
        (BRATS_2021, 2, 4),
        (BRATS_2023, 2, 3),
        (MSD, 1, 3),
        ({"NCR": 1, "ED": 2, "ET": 3}, 2, 3),
        ({"NETC": 1, "SNFH": 2, "ET": 3}, 2, 3),
        ({"necrotic-core": 1, "non-enhancing": 3, "peritumoral-edema": 2, "enhancing": 4}, 2, 4),
        ({"NCR/NET": 1, "oedema": 2, "GD-enhancing": 4}, 2, 4),
        ({"label-1": 1, "label-2": 2, "label-4": 4}, 2, 4),
    ],
)
def test_brats_regions_whatever_the_year_calls_them(
    labels: dict[str, int], edema: int, enhancing: int
) -> None:
    regions = choose_regions("brats-regions", (), labels)
    values = {name: {labels[label] for label in members} for name, members in regions.items()}
    every = set(labels.values())
    assert values == {"WT": every, "TC": every - {edema}, "ET": {enhancing}}
    assert list(values) == ["WT", "TC", "ET"]


@pytest.mark.parametrize(
    ("target", "labels", "expected"),
    [
        ("labels", MSD, {}),
        ("foreground", MSD, {}),
        ("whole-tumour", MSD, {"whole-tumour": tuple(MSD)}),
        ("liver", {"liver": 1, "cancer": 2}, {"liver": ("liver", "cancer")}),
        ("liver", {"spleen": 1, "liver": 5, "kidney-tumour": 6}, {"liver": ("liver",)}),
        (
            "liver-and-tumour",
            {"liver": 1, "tumour": 2},
            {"liver": ("liver", "tumour"), "tumour": ("tumour",)},
        ),
        (
            "liver-and-tumour",
            {"spleen": 3, "Liver": 1, "liver-lesions": 2},
            {"liver": ("Liver", "liver-lesions"), "tumour": ("liver-lesions",)},
        ),
    ],
)
def test_presets(target, labels, expected):
    assert choose_regions(target, (), labels) == expected


@pytest.mark.parametrize(
    ("target", "labels", "expected"),
    [
        ("brats-regions", {"label-1": 1, "label-2": 2, "label-3": 3}, "label-3 (3)"),
        ("brats-regions", {**BRATS_2023, "cavity": 4}, "cavity (4)"),
        ("brats-regions", {"edema": 1, "enhancing": 2}, "enhancing (2)"),
        ("liver", {"spleen": 1}, "a label named liver"),
        ("liver", {"tumour": 1}, "a label named liver"),
        ("liver-and-tumour", {"liver": 1}, "named tumour, cancer or lesion"),
        ("liver-and-tumour", {"tumour": 1}, "a label named liver"),
    ],
)
def test_labels_that_a_preset_cannot_distinguish(target, labels, expected):
    with pytest.raises(UserError, match=r"^--target ") as caught:
        choose_regions(target, (), labels)
    assert expected in str(caught.value)
    assert "--regions" in str(caught.value)


def test_own_regions_by_name_and_by_value():
    regions = choose_regions("labels", ("WT=4, 2,1", "core=enhancing,1", "ET = 4"), BRATS_2021)
    assert regions == {
        "WT": ("necrosis", "edema", "enhancing"),
        "core": ("necrosis", "enhancing"),
        "ET": ("enhancing",),
    }
    assert list(regions) == ["WT", "core", "ET"]


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (
            ("WT=1", "ET=3"),
            "--regions ET=3: expected one of the labels necrosis (1), edema (2), enhancing (4), found 3",
        ),
        (
            ("WT=necrosys",),
            "--regions WT=necrosys: expected a known label, found 'necrosys'; did you mean 'necrosis'?",
        ),
        (("WT=",), "--regions WT=: expected a name, = and what it is made of, as in core=1,4"),
        (("WT",), "--regions WT: expected a name"),
        (("a/b=1",), "--regions a/b=1: expected a name"),
        (("WT=1,,2",), "--regions WT=1,,2: expected a name"),
        (("WT=1", "WT=2"), "--regions WT=2: expected each name once, found WT twice"),
        (tuple(f"r{index}=1" for index in range(9)), "--regions: expected at most 8, found 9"),
    ],
)
def test_own_regions_that_cannot_be(own, expected):
    with pytest.raises(UserError) as caught:
        choose_regions("labels", own, BRATS_2021)
    assert str(caught.value).startswith(expected)
    assert "\n" not in str(caught.value)


def test_own_regions_in_addition_to_a_target():
    with pytest.raises(UserError, match="expected no target in addition, found liver; leave one out"):
        choose_regions("liver", ("a=1",), BRATS_2021)


@pytest.mark.parametrize(
    ("declared", "labels", "merged"),
    [
        ((), BRATS_2021, {}),
        (("core=1",), {"core": 1, "edema": 2, "enhancing": 4}, {}),
        (("tumour=4,1,2",), {"tumour": 4}, {"tumour": (1, 2)}),
        (("tumour=necrosis,edema",), {"tumour": 1, "enhancing": 4}, {"tumour": (2,)}),
        (("background=0,255",), BRATS_2021, {"background": (255,)}),
        (("background=edema",), {"necrosis": 1, "enhancing": 4}, {"background": (2,)}),
        (("enhancing=3,4",), BRATS_2023, {"enhancing": (4,)}),
        (("enhancing=3",), BRATS_2023, {}),
        (("edema=1", "necrosis=2"), {"edema": 1, "necrosis": 2, "enhancing": 4}, {}),
        (("cyst=7",), {**BRATS_2021, "cyst": 7}, {}),
    ],
)
def test_labels_renamed_merged_and_fixed(declared, labels, merged):
    table = map_labels(declared, BRATS_2021)
    assert (table.labels, table.merged) == (labels, merged)
    assert list(table.labels.values()) == sorted(table.labels.values())


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        (("tumour=1,2", "core=2"), "expected each value once"),
        (("tumour=0,1",), "expected 0 to stay the background"),
        (("tumour=odema",), "expected a known label, found 'odema'; did you mean 'edema'?"),
        (("tumour",), "--labels tumour: expected a name, = and what it is made of, as in enhancing=4,3"),
    ],
)
def test_labels_that_cannot_be(declared, expected):
    with pytest.raises(UserError, match=r"^--labels ") as caught:
        map_labels(declared, BRATS_2021)
    assert expected in str(caught.value)
