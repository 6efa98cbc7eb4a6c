"""Files outside of a source are read where that is asked for, and else named."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from small_study import prepare_here

from ossnet.data import PrepareConfig, verify, write_phantom
from ossnet.data.layouts import read_source
from ossnet.data.prepare.plan import make_plan
from ossnet.errors import UserError

FIRST, SECOND = "phantom_000", "phantom_001"


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Two cases; beside them a folder with the image of the first one."""
    (tmp_path / "outside").mkdir()
    return write_phantom(tmp_path / "scans", cases=2, shape=(12, 10, 8), modalities=("FLAIR",))


def move(scans: Path, name: str) -> Path:
    return (scans / name).rename(scans.parent / "outside" / Path(name).name)


def link_a_file(scans: Path) -> Path:
    moved = move(scans, f"imagesTr/{FIRST}.nii.gz")
    (scans / "imagesTr" / moved.name).symlink_to(moved)
    return scans


def list_a_path(scans: Path) -> Path:
    moved, file = move(scans, f"imagesTr/{FIRST}.nii.gz"), scans / "dataset.json"
    description = json.loads(file.read_text())
    for entry in description["training"]:
        if FIRST in entry["image"]:
            entry["image"] = f"../outside/{moved.name}"
    file.write_text(json.dumps(description))
    return scans


def table_of_an_absolute_path(scans: Path) -> Path:
    moved, table = move(scans, f"labelsTr/{FIRST}.nii.gz"), scans / "table.csv"
    rows = [(FIRST, moved), (SECOND, f"labelsTr/{SECOND}.nii.gz")]
    lines = [f"{case},imagesTr/{case}.nii.gz,{label}" for case, label in rows]
    table.write_text("\n".join(["case,FLAIR,label", *lines]))
    return table


@pytest.mark.parametrize("place", [link_a_file, list_a_path, table_of_an_absolute_path])
def test_a_case_with_a_file_outside_is_left_out_unless_that_is_allowed(
    place: Callable[[Path], Path], scans: Path, tmp_path: Path
) -> None:
    source = place(scans)
    assert [case.id for case in read_source(source, allow_outside=True).cases] == [FIRST, SECOND]
    found = verify(source)
    (error,) = (issue for issue in found.findings if issue.severity == "error")
    assert error.case == FIRST
    assert error.found == str(tmp_path / "outside" / f"{FIRST}.nii.gz")
    assert "--allow-outside" in error.remedy
    assert not [issue for issue in verify(source, allow_outside=True).findings if issue.severity == "error"]

    config = PrepareConfig(source, tmp_path / "store")
    assert "--allow-outside" in prepare_here(make_plan(config)).excluded[FIRST]
    config = PrepareConfig(source, tmp_path / "whole", allow_outside=True)
    assert list(prepare_here(make_plan(config)).cases) == [FIRST, SECOND]


def test_where_all_lie_outside_the_line_says_how_to_read_them(scans: Path) -> None:
    (scans / "imagesTr").rename(scans.parent / "outside" / "imagesTr")
    (scans / "imagesTr").symlink_to(scans.parent / "outside" / "imagesTr")
    with pytest.raises(UserError, match=r"found none: .*give --allow-outside"):
        read_source(scans)


def test_a_source_that_is_a_link_and_links_within_are_no_matter(scans: Path, tmp_path: Path) -> None:
    kept = scans / ".git" / "annex"
    kept.mkdir(parents=True)
    image = scans / "imagesTr" / f"{FIRST}.nii.gz"
    image.rename(kept / "object")
    image.symlink_to("../.git/annex/object")
    (tmp_path / "link").symlink_to(scans)
    assert len(read_source(tmp_path / "link").cases) == 2
