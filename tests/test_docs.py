"""What the pages name exists: paths, options, fields and Python names; and the drawing is of today."""

import ast
import dataclasses
import importlib
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import autoscaling_record
import chaos_record
import pytest

from ossnet import schemas
from ossnet.config import Config

ROOT = Path(__file__).parents[1]
PAGES = [
    *sorted(ROOT.glob("*.md")),
    ROOT / "cluster" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
CODE = re.compile(r"```.*?```|`[^`]+`", re.DOTALL)
FILE = re.compile(r"(?<![\w/.-])(?:ossnet|tests|jobs|search_spaces|cluster|docs)/[\w./-]*\w")
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")
OPTION = re.compile(r"(?<![\w-])--([a-z][\w.-]*\w)")
NAME = re.compile(r"(?<![\w./])ossnet(?:\.\w+)+")
ENTRY_POINTS = {f"ossnet.{group}" for group in ("networks", "losses", "layouts", "transforms")}
PRIVATE_WORDS = re.compile(
    r"\b(told|[Jj]udge|Notebook|[Tt]ally|Bookkeeper|[Oo]racle|[Cc]ontest|standin|[Oo]utlook|doubts|alike|taught"
    r"|hungriest)\b"
)
OTHER_PROGRAMS = re.compile(
    r"^.*\b(?:pip|aws|az|kubectl|docker|ray|gcloud|ruff|pytest|chromium)\b.*$(?:\n +--.*$)*", re.MULTILINE
)
"""Lines of shell whose options are another program's, up to a `--` that hands the rest to ours."""

page = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def load(path: Path) -> ModuleType:
    """A Python file that belongs to no package, as a module."""
    spec = importlib.util.spec_from_file_location(f"docs_test_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def options_of(kind: type[Any], prefix: str = "") -> Iterator[str]:
    """The options that tyro makes of a dataclass."""
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        name = prefix + field.name.replace("_", "-")
        if dataclasses.is_dataclass(hints[field.name]):
            yield from options_of(hints[field.name], f"{name}.")
        if field.default is True:
            yield f"{prefix}no-{name.removeprefix(prefix)}"
        yield name


def fields_of(config: Any, prefix: str = "") -> Iterator[str]:
    """The dotted fields of a configuration."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        yield prefix + field.name
        if dataclasses.is_dataclass(value):
            yield from fields_of(value, f"{prefix}{field.name}.")


@cache
def config_fields() -> frozenset[str]:
    """The fields of the configurations of all networks, of the example of a plug-in too."""
    from ossnet.models import PRESETS

    example = ast.parse((ROOT / "tests" / "plugin_example" / "example_network.py").read_text())
    plugin = {
        f"model.{ast.unparse(node.target)}" for node in ast.walk(example) if isinstance(node, ast.AnnAssign)
    }
    return plugin | frozenset(name for network in PRESETS for name in fields_of(Config.preset(network)))


@cache
def options() -> frozenset[str]:
    """The options of all jobs and of the configuration."""
    commands = sorted((ROOT / "ossnet" / "commands").glob("*.py"))
    modules = [importlib.import_module(f"ossnet.commands.{path.stem}") for path in commands]
    kinds = {
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and dataclasses.is_dataclass(value)
    }
    dotted = {name.replace("_", "-") for name in config_fields()}
    dotted |= {f"{parent}.no-{leaf}" for parent, _, leaf in (name.rpartition(".") for name in dotted)}
    return (
        frozenset(option for kind in kinds for option in options_of(kind))
        | dotted
        | {"completion", "help", "help-all"}
    )


def resolves(name: str) -> bool:
    """Whether a dotted name is a module or something in one."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


@page
def test_files_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text()
    named = {ROOT / name for name in FILE.findall(text)} | {page.parent / name for name in LINK.findall(text)}
    missing = sorted(str(path.relative_to(ROOT)) for path in named if not path.exists())
    assert not missing


@page
def test_options_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text()
    code = "\n".join(OTHER_PROGRAMS.sub("", block) for block in CODE.findall(text))
    unknown = sorted({name for name in OPTION.findall(code) if name not in options()})
    assert not unknown


@page
def test_configuration_fields_that_a_page_names_exist(page: Path) -> None:
    sections = {name.split(".")[0] for name in config_fields() if "." in name}
    pattern = re.compile(rf"(?<![\w./-])(?:{'|'.join(sorted(sections))})\.[a-z]\w*(?!\.py)\b")
    spans = [span for span in CODE.findall(page.read_text()) if not span.startswith("```")]
    named = {name for span in spans for name in pattern.findall(span)}
    files = (".py", ".json", ".safetensors")
    assert not sorted(name for name in named if name not in config_fields() and not name.endswith(files))


@page
def test_python_names_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text()
    names = {name for span in CODE.findall(text) for name in NAME.findall(span)} - ENTRY_POINTS
    assert not sorted(name for name in names if not resolves(name))


@page
def test_pages_use_the_words_of_the_field(page: Path) -> None:
    assert not PRIVATE_WORDS.findall(page.read_text())


def test_the_drawing_is_made_from_the_imports_of_today() -> None:
    """After a change of imports: `python docs/architecture.py`."""
    architecture = load(ROOT / "docs" / "architecture.py")
    assert architecture.DRAWING.read_text() == architecture.draw()


def test_the_page_of_the_architecture_names_every_room() -> None:
    architecture = load(ROOT / "docs" / "architecture.py")
    house = architecture.house()
    rooms = set(house.rooms) | {
        f"{name}/{inner}"
        for name, room in house.rooms.items()
        for inner in room.rooms
        if inner.isidentifier()
    }
    text = (ROOT / "docs" / "architecture.md").read_text()
    assert not sorted(room for room in rooms if f"`{room}" not in text and f"`ossnet/{room}" not in text)


def walks() -> dict[str, list[str]]:
    """The files of each walk on the page of the architecture, by its heading."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    sections = re.split(r"^### ", text, flags=re.MULTILINE)[1:]
    return {
        section.splitlines()[0]: re.findall(
            r"^\| `((?:jobs|ossnet|search_spaces)/[^`]+)`", section, re.MULTILINE
        )
        for section in sections
    }


def test_the_walks_count_their_files_and_name_each_once() -> None:
    found = walks()
    assert [heading.split(":")[0] for heading in found] == ["A case", "A trial", "A prediction"]
    for heading, files in found.items():
        assert len(files) == len(set(files)) == int(re.search(r"(\d+) files", heading)[1])  # type: ignore[index]


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert built.returncode == 0, built.stderr
    pages = {path.stem for path in (tmp_path / "site").glob("*.html")}
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} <= pages
    assert "ossnet bench resolution" in (tmp_path / "site" / "commands.html").read_text()
    loaded = re.findall(
        r'(?:src|href)="(https?://[^"]+\.(?:js|css|woff2?))"', (tmp_path / "site" / "index.html").read_text()
    )
    assert not loaded
    assert "from_checkpoint" in (tmp_path / "site" / "python.html").read_text()


def test_the_page_of_files_has_the_versions_of_today() -> None:
    rows = re.findall(
        r"^\| a (\w+).*\| (\d+) \|[^|]*\|$", (ROOT / "docs" / "files.md").read_text(), re.MULTILINE
    )
    versions = {name.lower(): value for name, value in vars(schemas).items() if isinstance(value, int)}
    assert {name: int(number) for name, number in rows} == versions


def test_the_readme_can_be_read_in_five_minutes() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 1000


def test_the_table_of_faults_is_what_was_recorded() -> None:
    page = chaos_record.PAGE.read_text()
    rows = chaos_record.read_rows()
    assert chaos_record.with_table(page, rows) == page
    assert rows[0]["fault"] in page


def test_the_timeline_of_autoscaling_is_drawn_from_its_log() -> None:
    figure, rows = autoscaling_record.FIGURE.read_text(), autoscaling_record.read_rows()
    assert autoscaling_record.draw(rows) == figure
    assert (rows[0]["nodes"], rows[-1]["nodes"]) == (0, 0)
