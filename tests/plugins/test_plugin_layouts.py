"""Layouts of folders of scans that an installed package adds."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ossnet.data import read_source, write_phantom
from ossnet.errors import UserError

Install = Callable[..., None]

LAYOUT = """
from ossnet.data.layouts import Layout
def fails(path): raise KeyError("no\\nsuch key")
fine = Layout("fine", "anything", lambda path: True, lambda path: 3)
other = Layout("other", "anything", lambda path: True, fails)
shy = Layout("shy", "nothing", fails, fails)
lits = Layout("lits", "anything", lambda path: True, fails)
"""


@pytest.mark.usefixtures("example")
@pytest.mark.parametrize("layout", ["auto", "scan-and-mask"])
def test_a_layout_is_recognized_and_chosen_by_name(layout: str, scans_and_masks: Path) -> None:
    source = read_source(scans_and_masks, layout)
    assert source.layout == "scan-and-mask"
    assert [case.id for case in source.cases] == ["phantom_000", "phantom_001"]
    assert all(case.images[0].is_file() and case.label.is_file() for case in source.cases)  # type: ignore[union-attr]


@pytest.mark.usefixtures("example")
def test_ours_are_recognized_first_and_all_are_listed(tmp_path: Path, scans_and_masks: Path) -> None:
    ours = write_phantom(tmp_path / "both", cases=1, shape=(12, 10, 8))
    (scans_and_masks / "phantom_000").rename(ours / "phantom_000")
    assert read_source(ours).layout == "msd"
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"FLAIR.nii.gz \(folders\) or case/scan.nii.gz \(scan-and-mask\)"):
        read_source(tmp_path / "empty")
    with pytest.raises(UserError, match="brats, lits, folders or scan-and-mask, found 'dicom'"):
        read_source(tmp_path / "empty", "dicom")


def test_one_that_fails_to_recognize_is_passed_over(
    scans_and_masks: Path, install: Install, warnings
) -> None:
    install("shy", LAYOUT, "shy = plug_shy:shy", group="layouts")
    with pytest.raises(UserError, match="expected a known layout"):
        read_source(scans_and_masks)
    (line,) = warnings()
    assert line.startswith("package shy 1.0, entry point shy of ossnet.layouts: expected to recognize ")
    assert "found KeyError" in line


def test_two_that_recognize_a_folder_are_named(scans_and_masks: Path, install: Install) -> None:
    install("both", LAYOUT, "fine = plug_both:fine", "other = plug_both:other", group="layouts")
    with pytest.raises(
        UserError,
        match=r"point fine .+ and .+ point other .+; choose by --layout fine or --layout other",
    ):
        read_source(scans_and_masks)


@pytest.mark.parametrize(("name", "found"), [("fine", "found int"), ("other", "found KeyError")])
def test_one_that_cannot_read_is_named(
    name: str, found: str, scans_and_masks: Path, install: Install
) -> None:
    install("both", LAYOUT, f"{name} = plug_both:{name}", group="layouts")
    with pytest.raises(UserError, match=f"entry point {name} of ossnet.layouts to give a Source, {found}"):
        read_source(scans_and_masks)


@pytest.mark.parametrize(
    ("name", "point", "expected"),
    [
        ("lits", "lits", "found lits, which ossnet has itself"),
        ("fails", "fails", "expected an ossnet.data.layouts.Layout, found <function"),
        ("more", "fine", "expected a layout named more, found fine"),
    ],
)
def test_one_that_is_wrong_disables_itself(
    name: str, point: str, expected: str, scans_and_masks: Path, install: Install, warnings
) -> None:
    install("broken", LAYOUT, f"{name} = plug_broken:{point}", group="layouts")
    with pytest.raises(UserError, match="expected a known layout"):
        read_source(scans_and_masks)
    (line,) = warnings()
    assert line.startswith(f"package broken 1.0, entry point {name} of ossnet.layouts: ")
    assert expected in line
