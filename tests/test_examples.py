"""What the pages and the docstrings show works: commands parse, snippets resolve, and the fast ones run."""

import ast
import builtins
import doctest
import importlib
import inspect
import json
import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import FixedTrial
from recorded_study import write_study
from test_docs import PAGES, ROOT

from ossnet.commands import bench
from ossnet.commands._parse import choose_command, parse_with_config
from ossnet.commands._values import budget_gib, parse_duration, space_file
from ossnet.commands.main import JOBS
from ossnet.config import Config
from ossnet.data.layouts import check_layout
from ossnet.distributed.tuning.config import parse_objectives
from ossnet.memory.parse import parse_memory

BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`((?:ossnet|python jobs/)[^`]* --[^`]+)`")
SHELL = {"bash", "sh"}
SHOWN = {"", "text", "bibtex", "toml", "python"}
"""What other blocks may be: what a program prints, data, and what other tests check."""
OTHER_PROGRAMS = {
    "ray",
    "pip",
    "docker",
    "kubectl",
    "aws",
    "az",
    "gcloud",
    "source",
    "sed",
    "cluster/image.sh",
    "autoload",
    "compinit",
    "bashcompinit",
    "export",
    "head",
    "base64",
    "curl",
}
VALUES = {
    "grace": parse_duration,
    "inference_budget": budget_gib,
    "layout": check_layout,
    "max_time": parse_duration,
    "max_upload": parse_memory,
    "memory_budget": budget_gib,
    "objectives": parse_objectives,
    "seconds_per_case": parse_duration,
    "space": space_file,
    "wait_at_most": parse_duration,
}
"""Options whose texts a job reads itself."""
MODULES = sorted(path for path in (ROOT / "ossnet").rglob("*.py") if ">>> " in path.read_text())

page = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def blocks(page: Path, *languages: str) -> list[str]:
    return [text for language, text in BLOCK.findall(page.read_text()) if language in languages]


def spans(page: Path) -> list[str]:
    """The commands with options in the running text of a page."""
    return [" ".join(span.split()) for span in SPAN.findall(page.read_text())]


def snippet(page: str, naming: str) -> str:
    """The only Python block of a page that has this text."""
    (found,) = [text for text in blocks(ROOT / page, "python") if naming in text]
    return found


def simple_commands(script: str) -> Iterator[list[str]]:
    """The words of each command of a script, without variables before it, and what a cluster is to run."""
    for line in script.replace("\\\n", " ").splitlines():
        line = re.sub(r"\s\d?>+\s*\S+", "", line)  # where the output goes
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        parts = groupby(lexer, key=lambda word: set(word) <= set("();<>|&"))
        for words in (list(part) for separates, part in parts if not separates):
            while words and re.match(r"\w+=", words[0]):
                del words[0]
            if words[:3] == ["ray", "job", "submit"]:
                words = words[words.index("--") + 1 :]
            if words:
                yield words


@cache
def parse(job: str, arguments: tuple[str, ...]) -> None:
    """Parse a job's options, and the texts in them, as the job does.

    Raises:
        UserError: there is a mistake in them.
    """
    if job == "bench":
        _, command, rest = choose_command(bench.COMMANDS, arguments)
        options = command.parse(rest)
    else:
        command = importlib.import_module(f"ossnet.commands.{job}").COMMAND
        if command.configurable:
            options, _ = parse_with_config(command, arguments, lambda model, data: Config.preset(model))
        else:
            options = command.parse(arguments)
    for name, read in VALUES.items():
        value = getattr(options, name, None)
        if value is not None:
            read(value)


def check(words: Sequence[str]) -> None:
    """Check a command of ours without running it; any other must be a program that is known."""
    match list(words):
        case ["ossnet", "--completion" | "--version" | "--help"]:
            return
        case ["ossnet", job, *arguments]:
            assert job in JOBS
        case ["python", script, *arguments] if script.startswith("jobs/"):
            job = Path(script).stem
            assert (ROOT / script).is_file()
        case ["sbatch", script, *arguments]:
            assert "ossnet tune " in (ROOT / script).read_text()
            job = "tune"
        case ["make", *targets]:
            rules = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert set(targets) <= set(rules)
            return
        case ["python", "-m", module, *_]:
            assert importlib.util.find_spec(f"{module}.__main__") is not None
            return
        case _:
            assert words[0] in OTHER_PROGRAMS, words
            return
    with suppress(SystemExit):  # where help was asked for; a mistake is a UserError
        parse(job, tuple(arguments))


def problems(code: str) -> list[str]:
    """What cannot be right in Python that is not run: modules, names and attributes that are not there, and
    calls whose arguments do not fit what they call."""
    tree, known = ast.parse(code), dict[str, Any]()
    nodes = list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            exec(compile(ast.Module([node], []), "<imports>", "exec"), known)
    assigned = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    assigned |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    assigned |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    found = []
    for node in nodes:
        if isinstance(node, ast.Name) and node.id not in assigned | known.keys() | vars(builtins).keys():
            found.append(f"{node.id} is not defined")
        elif isinstance(node, ast.Attribute | ast.Call):
            try:
                _resolve(node, known)
            except (AttributeError, TypeError) as error:
                found.append(f"{ast.unparse(node)}: {error}")
    return sorted(found)


UNKNOWN = object()


def _resolve(node: ast.AST, known: dict[str, Any]) -> Any:
    """What an expression of imported names is; of a call, after a check of its arguments, unknown."""
    if isinstance(node, ast.Name):
        return known.get(node.id, UNKNOWN)
    if isinstance(node, ast.Attribute):
        owner = _resolve(node.value, known)
        return UNKNOWN if owner is UNKNOWN else getattr(owner, node.attr)
    if isinstance(node, ast.Call):
        called = _resolve(node.func, known)
        starred = any(isinstance(each, ast.Starred) for each in node.args)
        if called is not UNKNOWN and not starred and None not in {each.arg for each in node.keywords}:
            try:
                signature = inspect.signature(called)
            except ValueError:  # of what is written in C
                return UNKNOWN
            signature.bind(*node.args, **{str(each.arg): each.value for each in node.keywords})
    return UNKNOWN


@page
def test_commands_of_a_page_parse(page: Path) -> None:
    for script in [*blocks(page, *SHELL), *spans(page)]:
        for words in simple_commands(script):
            check(words)


@page
def test_other_blocks_of_a_page_are_what_they_are_called(page: Path) -> None:
    assert {language for language, _ in BLOCK.findall(page.read_text())} <= SHELL | SHOWN
    for text in blocks(page, "toml"):
        tomllib.loads(text)
    for code in blocks(page, "python"):
        assert not problems(code)


def test_a_page_with_a_mistake_is_found() -> None:
    words = ["ossnet", "train", "--max-time", "20"]
    with pytest.raises(Exception, match="expected numbers above 0 with units"):
        check(words)
    with pytest.raises(Exception, match="--epoch"):
        check(["python", "jobs/train.py", "--epoch", "3"])
    code = "from ossnet.config import Config\nConfig.presets('a')\nConfig.preset(nam='a')\nx(1)"
    assert problems(code) == [
        "Config.preset(nam='a'): missing a required argument: 'name'",
        "Config.presets('a'): type object 'Config' has no attribute 'presets'",
        "Config.presets: type object 'Config' has no attribute 'presets'",
        "x is not defined",
    ]


@pytest.fixture(scope="module")
def workplace(
    phantom_store: Path, phantom_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with what the examples name: scans, a store, and a study with its checkpoint."""
    folder = tmp_path_factory.mktemp("examples")
    shutil.copytree(phantom_store, folder / "runs" / "store")
    shutil.copytree(phantom_checkpoint, folder / "runs" / "study" / "checkpoint")
    write_study(folder / "runs" / "study")
    scans = phantom_store.parent / "source" / "imagesTr"
    shutil.copy(min(scans.glob("*.nii.gz")), folder / "new_scan.nii.gz")
    return folder


def test_the_snippet_of_the_readme_runs(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    exec(snippet("README.md", "Predictor"), {})
    assert (workplace / "labels.nii.gz").is_file()


def test_the_snippet_of_the_page_of_python_runs(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    (workplace / "labels.nii.gz").unlink(missing_ok=True)
    names = {}
    exec(snippet("docs/python.md", "open_study"), names)
    assert (workplace / "labels.nii.gz").is_file()
    assert names["segmentation"].labels.shape == names["image"].shape[:3]


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cell after cell; what a cell ends with is shown, as a notebook does."""
    monkeypatch.chdir(workplace)
    cells = [each for each in json.loads(path.read_text())["cells"] if each["cell_type"] == "code"]
    names, shown = dict[str, Any](), list[str]()
    for cell in cells:
        *statements, last = ast.parse("".join(cell["source"])).body
        exec(compile(ast.Module(statements, []), path.name, "exec"), names)
        assert isinstance(last, ast.Expr)
        value = eval(compile(ast.Expression(last.value), path.name, "eval"), names)
        shown.append(value._repr_html_() if hasattr(value, "_repr_html_") else repr(value))
    assert all(shown)
    assert any("data:image/jpeg" in each for each in shown)


def test_the_space_of_its_page_names_settings() -> None:
    names = {}
    exec(snippet("docs/search_space.md", "def space"), names)
    drawn = names["space"](FixedTrial({"decoder_width": 64, "border_fraction": 0.25}))
    config = Config.preset("oss-net-c").replace(drawn)
    assert (config.model.decoder_width, config.sampling.border_fraction) == (64, 0.25)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_examples_in_docstrings_give_what_they_say(
    path: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workplace)
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    module = importlib.import_module(name.removesuffix(".__init__"))
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.attempted
    assert not result.failed
