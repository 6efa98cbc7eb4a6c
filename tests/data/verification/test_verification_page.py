"""The page of a verification: whatever a case or a folder is called, it stays text."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ossnet.data.verification.distributions import distributions
from ossnet.data.verification.html_report import render, write_page
from ossnet.data.verification.issues import CaseSummary, FileSummary, Issue, LabelRemap, Verification
from ossnet.errors import UserError
from ossnet.output.palette import color

SCRIPT = "<script>alert('x')</script>"


class Page(HTMLParser):
    """Collects a page's tags, its classes and its texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.classes: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.classes += [value or "" for name, value in attrs if name == "class"]

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())


def verification(name: str = SCRIPT) -> Verification:
    """A faulty case and a healthy one, called as given, with a label of that name and an odd value."""
    root = Path("scans") / name.replace("/", "-")
    image = FileSummary(root / "i.nii", (2, 3, 4), (1.0, 1.0, 1.0), "RAS", "int16", (1, 1), 0.0, 23.0)
    cases = tuple(
        CaseSummary(case, "patient", (image,), None, {"0": 20, "7": 4}, "data:image/jpeg;base64,AA==")
        for case in ("healthy", name)
    )
    return Verification(
        root=root,
        layout="csv",
        modalities=(name,),
        labels={name: 1},
        cases=cases,
        findings=(Issue("error", name, str(root / "l.nii"), name, "none", f"rename {name}"),),
        remap=(LabelRemap("7", name, 1, (name,), f"as {name} says"),),
        seconds=1.0,
    )


def test_names_of_cases_labels_and_folders_are_escaped() -> None:
    page = Page(render(verification()))
    assert page.tags.count("script") == 1  # the page's own
    # the modality in the heading, the finding's case, the label in its table and key, the case's heading
    assert page.texts.count(SCRIPT) == 5
    assert page.texts.count(f"expected {SCRIPT}, found none") == 2
    assert f"rename {SCRIPT}" in page.texts
    assert f"{SCRIPT} (1)" in page.texts
    assert "Verification of " + SCRIPT.replace("/", "-") in page.texts


def test_faulty_cases_come_first_and_are_marked() -> None:
    page = Page(render(verification("c")))
    assert [name for name in page.classes if name.startswith(("case", "card case"))] == [
        "cases",
        "card case has-error",
        "card case",
    ]
    assert page.texts.index("c", page.texts.index("Cases")) < page.texts.index("healthy")


def test_a_page_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    with pytest.raises(
        UserError, match=r"expected a file that can be written, found .*; name another --output"
    ):
        write_page(verification("c"), tmp_path / "taken" / "verification.html")


def test_each_card_says_what_a_filter_shows() -> None:
    text = render(verification("c"))
    assert '<button data-show="error" aria-pressed="false">error (1)</button>' in text
    assert text.count('data-severity="error"') == 2  # the finding and its case
    assert text.count('data-severity=""') == 1  # the healthy case


def test_background_has_no_color_even_where_a_source_declares_it() -> None:
    labels = {"background": 0, "liver": 1, "tumor": 2}
    text = render(replace(verification("c"), labels=labels))
    keys = re.findall('style="background: (#......)"></i>(.*?)</span>', text)
    assert keys == [(color(0), "liver"), (color(1), "tumor")]


def test_sizes_along_the_body_whatever_the_order_of_the_file() -> None:
    def case(name: str, shape: tuple[int, ...], axes: str, mean: float) -> CaseSummary:
        image = FileSummary(Path("i"), shape, (1.0, 2.0, 3.0), axes, means=(mean,))
        return CaseSummary(name, name, (image,), None, {})

    cases = (case("a", (10, 20, 30), "RAS", 5.0), case("b", (30, 10, 20), "SLP", 7.0))
    found = {each.name: each for each in distributions(replace(verification("T1w"), cases=cases))}
    assert found["size, left to right (voxels)"].same == "10 in all 2 cases"
    assert found["size, foot to head (voxels)"].same == "30 in all 2 cases"
    assert found["spacing, left to right (mm)"].chart is not None  # 1 and 2 mm
    assert "5 to 5.12: 1 case" in str(found["mean of T1w"].chart)
