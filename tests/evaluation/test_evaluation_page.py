"""The page of an evaluation: every figure of the summary, and names that stay text."""

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from ossnet.evaluation import CaseScore, OverlapMetrics
from ossnet.evaluation.html_report import Evaluated, Subject, render
from ossnet.output.palette import color

SCRIPT = "<script>alert('x')</script>"
PNG = b"\x89PNG"
ABOUT = Evaluated("runs/store", Subject("unet-3d", "runs/train/checkpoint"))


class Page(HTMLParser):
    """Collects a page's tags, the sources of its pictures and its texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.pictures: dict[str | None, str | None] = {}
        self.texts: list[str] = []
        self.fills: list[str | None] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fills += [value for name, value in attrs if name == "fill"]
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
    page = Page(render(summary(SCRIPT), {SCRIPT: picture}, ABOUT))
    assert page.tags.count("script") == 1  # the page's own
    assert page.texts.count(SCRIPT) == 3  # the class, the heading of its picture, and the split
    assert page.texts.count(f"unet-3d on 2 cases ({SCRIPT})") == 2
    assert page.pictures == {picture.stem: "data:image/png;base64,iVBORw=="}


def test_every_figure_is_on_the_page() -> None:
    page = Page(render(summary("liver"), {}, ABOUT))
    assert page.texts.count("0.500\n0.250 to 0.750") == 5
    assert {"2 of 3 parts", "1.5", "1", "4"} <= set(page.texts)
    assert not any("temperature" in text for text in page.texts)
    assert not any("minus" in text for text in page.texts)


@pytest.mark.parametrize(
    ("protocol", "words"),
    [
        ("unseen", "at temperature 1.23."),
        ("cross-fitted", "at temperature 1.23; of each case"),
        ("in-sample", "expect a larger one of others."),
    ],
)
def test_how_the_temperature_was_fitted(protocol: str, words: str) -> None:
    page = Page(render(summary("liver", temperature=1.234, ece_protocol=protocol), {}, ABOUT))
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
    about = Evaluated("runs/store", ABOUT.subject, Subject("oss-net-c", "runs/other"))
    page = Page(render(summary("liver", baseline={"difference": {"dice": found}}), {}, about))
    assert "unet-3d minus oss-net-c" in page.texts
    assert "oss-net-c, runs/other" in page.texts
    assert {"17", "+0.0200", "-0.0100 to +0.0500", "3", "1", "0.125"} <= set(page.texts)


def test_the_heading_names_network_checkpoint_store_and_split() -> None:
    texts = Page(render(summary("validation", fold=2), {}, ABOUT)).texts
    assert {"unet-3d", "runs/train/checkpoint", "runs/store", "validation (fold 2)"} <= set(texts)


def test_two_networks_of_one_name_are_told_apart() -> None:
    assert Evaluated("", ABOUT.subject, Subject("unet-3d", "runs/b")).named() == (
        "unet-3d (this)",
        "unet-3d (the other)",
    )


def test_one_case_has_no_interval() -> None:
    page = Page(render(summary("liver") | {"cases": 1}, {}, ABOUT))
    assert page.texts.count("0.500") == 5
    assert not any(" to 0.750" in text for text in page.texts)


def test_tumors_have_lesions_and_organs_have_parts() -> None:
    found = summary("liver")["classes"]["liver"]
    page = Page(render(summary("x") | {"classes": {"liver": found, "liver tumor": found}}, {}, ABOUT))
    assert {"2 of 3 parts", "2 of 3 lesions"} <= set(page.texts)


def test_every_case_has_a_mark_in_the_color_of_its_class() -> None:
    def score(case: str, dice: float) -> CaseScore:
        return CaseScore(case, {"liver": OverlapMetrics(dice, dice / 2, 10, 10)})

    about = Evaluated(
        "s", ABOUT.subject, Subject("o-net", ""), [score("a", 0.5), score("b", 0.75)], [score("a", 0.25)]
    )
    page = Page(render(summary("liver"), {}, about))
    assert {"a, liver: 0.500", "b, liver: 0.750", "a, liver: 0.250 (the other)"} <= set(page.texts)
    assert page.fills.count(color(0)) == 2
