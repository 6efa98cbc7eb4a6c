"""Pages: escaped, whole in themselves, and strict about what a template names."""

import csv
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from ossnet.distributed.reports.page import StudySummary, write_files
from ossnet.distributed.reports.runs import RunRow
from ossnet.output.html import render_page

SCRIPT = "<script>alert('x')</script>"


class Page(HTMLParser):
    """Collects the tags of a page and its texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def row(name: str, **fields: object) -> RunRow:
    values: dict[str, object] = dict.fromkeys(RunRow.__dataclass_fields__)
    values |= {"name": name, "network": "o-net", "status": "finished", "dice": 0.5, "memory_gib": 1.0}
    return RunRow(**values | {"params": {}, "search_params": ()} | fields)  # type: ignore[arg-type]


def test_what_users_name_is_escaped(tmp_path: Path) -> None:
    rows = [
        row(SCRIPT, search_params=("a",), params={"a": SCRIPT}),
        row("other", search_params=("a",), params={"a": "</td>"}),
    ]
    files = write_files(rows, tmp_path, title=SCRIPT, study=StudySummary(f"note {SCRIPT}"))
    page = Page(files["page"].read_text())
    assert page.tags.count("script") == 1  # the page's own
    assert page.texts.count(SCRIPT) == 5  # the title twice, the experiment, the run and its parameter
    assert f"note {SCRIPT}" in page.texts
    with files["table"].open(newline="") as file:
        assert next(csv.DictReader(file))["run"] == SCRIPT


def test_a_page_needs_no_other_file_and_fits_both_color_schemes(tmp_path: Path) -> None:
    files = write_files([row("one")], tmp_path, title="mine")
    text = files["page"].read_text()
    page = Page(text)
    assert all(
        value is not None and value.startswith("data:") for name, value in page.attributes if name == "src"
    )
    assert not {"link", "iframe"} & set(page.tags)
    assert "href" not in dict(page.attributes)
    assert "url(" not in text
    assert "@media (prefers-color-scheme: dark)" in text
    assert "@media print" in text


def test_a_template_gets_all_that_it_names() -> None:
    with pytest.raises(UndefinedError, match="winner"):
        render_page("runs.html", title="t", facts={}, note="", header=[], lines=[])


def test_cells_have_four_digits_and_none_is_empty() -> None:
    lines = [["a", "b", 0.123456, None, 3]]
    values = {"note": "", "winner": None, "charts": (), "legend": (), "refused": [], "trials": None}
    text = render_page("runs.html", title="t", facts={}, header=[*"abcde"], lines=lines, **values)
    cells = re.findall("<td[^>]*>(.*?)</td>", text)
    assert cells == ["a", "b", "0.1235", "", "3"]


def test_a_heading_says_what_and_when_and_leaves_out_what_is_not_known() -> None:
    values = {"note": "", "winner": None, "charts": (), "legend": (), "refused": [], "trials": None}
    facts = {"store": "runs/store", "budget": None, "layout": ""}
    text = render_page("runs.html", title="t", facts=facts, header=[], lines=[], **values)
    heading = dict(re.findall("<dt>(.*?)</dt><dd>(.*?)</dd>", text))
    assert heading.keys() == {"store", "made"}
    assert heading["store"] == "runs/store"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", heading["made"])


def test_the_best_run_comes_first_with_the_command_that_predicts_with_it(tmp_path: Path) -> None:
    checkpoint = tmp_path / "my run" / "checkpoint"
    checkpoint.mkdir(parents=True)
    (checkpoint / "version.json").write_text("{}")
    rows = [row("first", dice=0.75, checkpoint=str(checkpoint)), row("second", dice=0.5)]
    text = write_files(rows, tmp_path, title="mine")["page"].read_text()
    assert "The best: first" in text
    assert f"ossnet predict --checkpoint &#39;{checkpoint}&#39; --input SCAN --output DIR" in text
    assert text.index("The best") < text.index("<svg")


def test_a_checkpoint_that_is_gone_has_no_command(tmp_path: Path) -> None:
    rows = [row("first", checkpoint=str(tmp_path / "gone"))]
    assert "ossnet predict" not in write_files(rows, tmp_path, title="mine")["page"].read_text()
