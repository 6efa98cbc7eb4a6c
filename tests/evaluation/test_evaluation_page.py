"""The page of an evaluation: every figure of the summary, and names that stay text."""

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from ossnet.evaluation.html_report import render

SCRIPT = "<script>alert('x')</script>"
PNG = b"\x89PNG"


class Page(HTMLParser):
    """Collects a page's tags, the sources of its pictures and its texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.pictures: dict[str | None, str | None] = {}
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "img":
            self.pictures[dict(attrs)["alt"]] = dict(attrs)["src"]

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())


def figures() -> dict[str, dict[str, float]]:
    measures = ("dice", "iou", "hd95_mm", "nsd", "volume_error_ml")
    return {name: {"mean": 0.5, "mean_low": 0.25, "mean_high": 0.75} for name in measures}


def summary(name: str, **fields: Any) -> dict[str, Any]:
    found = {**figures(), "lesions": 3, "lesions_detected": 2}
    found |= {"false_positives_per_case": 1.5, "false_negative_cases": 1, "false_positive_cases": 4}
    classes = {name: found}
    return {
        "cases": 2,
        "split": name,
        "policy": name,
        "nsd_tolerance_mm": 1.0,
        "classes": classes,
        **fields,
    }


def test_names_of_cases_classes_and_splits_are_escaped(tmp_path: Path) -> None:
    picture = tmp_path / "worst_<script>alert('x')<.png"
    picture.write_bytes(PNG)
    page = Page(render(summary(SCRIPT), {SCRIPT: picture}))
    assert "script" not in page.tags
    assert page.texts.count(SCRIPT) == 2  # the class and the heading of its picture
    assert page.texts.count(f"Evaluation of 2 cases ({SCRIPT})") == 2
    assert page.pictures == {picture.stem: "data:image/png;base64,iVBORw=="}


def test_every_figure_is_on_the_page() -> None:
    page = Page(render(summary("liver"), {}))
    assert page.texts.count("0.500\n0.250 to 0.750") == 5
    assert {"2 of 3", "1.5", "1", "4"} <= set(page.texts)
    assert not any("temperature" in text for text in page.texts)
    assert "This checkpoint minus the other" not in page.texts


@pytest.mark.parametrize(
    ("protocol", "words"),
    [
        ("unseen", "at temperature 1.23."),
        ("cross-fitted", "at temperature 1.23; of each case"),
        ("in-sample", "expect a larger one of others."),
    ],
)
def test_how_the_temperature_was_fitted(protocol: str, words: str) -> None:
    page = Page(render(summary("liver", temperature=1.234, ece_protocol=protocol), {}))
    assert sum(words in text for text in page.texts) == 1


def test_the_difference_to_another_checkpoint() -> None:
    found = {
        "cases": 17,
        "mean": 0.02,
        "interval": {"low": -0.01, "high": 0.05},
        "better": 3,
        "worse": 1,
        "p_value": 0.125,
    }
    page = Page(render(summary("liver", baseline={"difference": {"dice": found}}), {}))
    assert {"17", "+0.0200", "-0.0100 to +0.0500", "3", "1", "0.125"} <= set(page.texts)
