"""The files beside a space: imported by it and by nothing else; and when two texts are one program."""

import importlib
import pickle
import statistics
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from ossnet.distributed.tuning.search_space import Space
from ossnet.distributed.tuning.space_file import same_code
from ossnet.errors import UserError


def write(folder: Path, files: dict[str, str]) -> Space:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return Space(folder / "mine.py")


def returned(space: Space) -> dict[str, object]:
    return space(optuna.create_study().ask())


@pytest.mark.parametrize(
    "files",
    [
        {"mine.py": "from widths import W\ndef space(t): return {'w': W}", "widths.py": "W = 8"},
        {"mine.py": "def space(t):\n    import widths\n    return {'w': widths.W}", "widths.py": "W = 8"},
        {
            "mine.py": "import help.widths as w, help.more\ndef space(t): return {'w': w.W, **help.more.X}",
            "help/__init__.py": "from .widths import W",
            "help/widths.py": "from base import W",
            "help/more.py": "import help.widths\nfrom . import widths\nX = {'w': help.W + widths.W - 8}",
            "base.py": "W = 8",
        },
        {"mine.py": "from inner.widths import W\ndef space(t): return {'w': W}", "inner/widths.py": "W = 8"},
        {"mine.py": "from .widths import W\ndef space(t): return {'w': W}", "widths.py": "W = 8"},
        {
            "mine.py": "import colorsys\nfrom statistics import W\ndef space(t): return {'w': W}",
            "statistics.py": "import statistics, colorsys\nW = int(statistics.mean([colorsys.BLACK, 16]))",
            "colorsys.py": "BLACK = 0",
        },
        {
            "mine.py": "from sizes import Sizes\ndef space(t): return {'w': Sizes().w}",
            "sizes.py": "from __future__ import annotations\nfrom dataclasses import dataclass\n"
            "@dataclass\nclass Sizes:\n    w: int = 8",
        },
    ],
    ids=["module", "inside", "package", "folder", "relative", "standard names", "dataclass"],
)
def test_a_space_imports_the_files_beside_it(files: dict[str, str], tmp_path: Path) -> None:
    path, modules = list(sys.path), set(sys.modules)
    space = write(tmp_path, files)
    assert returned(space) == {"w": 8}
    assert space.helpers == {name: text for name, text in files.items() if name != "mine.py"}
    assert space.source == files["mine.py"]
    assert sys.path == path
    assert not {"widths", "help", "base", "inner", "sizes"} & set(sys.modules) - modules
    assert importlib.import_module("statistics") is statistics
    assert not list(tmp_path.rglob("__pycache__"))


def test_helpers_of_two_folders_are_not_mixed_up(tmp_path: Path) -> None:
    body = "from widths import W\ndef space(t): return {'w': W}"
    one = write(tmp_path / "one", {"mine.py": body, "widths.py": "W = 8"})
    other = write(tmp_path / "other", {"mine.py": body, "widths.py": "W = 16"})
    assert (returned(one), returned(other)) == ({"w": 8}, {"w": 16})
    changed = write(tmp_path / "one", {"widths.py": "W = 9"})
    assert (returned(one), returned(changed)) == ({"w": 8}, {"w": 9})


@pytest.mark.parametrize("name", ["random", "optuna", "ossnet"])
def test_a_space_may_be_named_like_a_module(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.py"
    path.write_text(f"import {name}\ndef space(t): return {{'w': {name}.__name__}}")
    assert returned(Space(path)) == {"w": name}


def test_another_process_finds_the_helpers(tmp_path: Path) -> None:
    """As a worker that is sent a space, whatever its working directory."""
    space = write(
        tmp_path / "spaces",
        {"mine.py": "from widths import W\ndef space(t): return {'w': W}", "widths.py": "W = 8"},
    )
    (tmp_path / "space.pickle").write_bytes(pickle.dumps(space))
    script = (
        "import pathlib, pickle, sys, optuna\n"
        "space = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())\n"
        "print(space(optuna.create_study().ask()))"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "space.pickle")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "{'w': 8}\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"mine.py": "import widths"}, "ModuleNotFoundError: No module named 'widths'"),
        (
            {"mine.py": "import widths.more", "widths.py": ""},
            "ModuleNotFoundError: No module named 'widths.more'; 'widths' is not a package",
        ),
        (
            {"mine.py": "from widths import W", "widths.py": ""},
            "ImportError: cannot import name 'W' from 'widths'",
        ),
        ({"mine.py": "import widths", "widths.py": "W ="}, "SyntaxError: invalid syntax (widths.py, line 1)"),
        ({"mine.py": "import widths", "widths.py": "1 / 0"}, "ZeroDivisionError: division by zero"),
        ({"mine.py": "import sys; sys.exit('no\\nway')"}, "SystemExit: no way"),
    ],
)
def test_faults_of_helpers_are_one_line(files: dict[str, str], expected: str, tmp_path: Path) -> None:
    modules = set(sys.modules)
    with pytest.raises(UserError) as fault:
        write(tmp_path, files)
    message = str(fault.value)
    assert expected in message
    assert "\n" not in message
    assert not {name for name in set(sys.modules) - modules if "_space_" in name}


PROGRAM = '''import math
import optuna

def space(trial):
    """A width."""
    return {"model.decoder_width": trial.suggest_int("w", 8, 16)}
'''


@pytest.mark.parametrize(
    "changed",
    [
        f"# a comment\n\n{PROGRAM}",
        PROGRAM.replace("import math\nimport optuna", "import optuna\nimport math  # first"),
        PROGRAM.replace("import math\nimport optuna", "import optuna, math"),
        PROGRAM.replace("\n", "\r\n"),
        PROGRAM.replace('"', "'").replace("'''A width.'''", "'another docstring'"),
        PROGRAM.replace("    ", "\t"),
        PROGRAM.replace('trial.suggest_int("w", 8, 16)', '(\n    trial.suggest_int("w", 8, 0x10,)\n)'),
        PROGRAM.replace('    """A width."""\n', ""),
    ],
)
def test_the_same_program_in_other_words(changed: str) -> None:
    assert changed != PROGRAM
    assert same_code(PROGRAM, changed)


@pytest.mark.parametrize(
    "changed",
    [
        PROGRAM.replace("16", "17"),
        PROGRAM.replace('"w"', '"W"'),
        PROGRAM.replace("import math", "import cmath"),
        PROGRAM.replace("suggest_int", "suggest_float"),
        PROGRAM + "\nPOINTS_TO_EVALUATE = [{'w': 8}]\n",
        "",
        "def space(",
    ],
)
def test_another_program(changed: str) -> None:
    assert not same_code(PROGRAM, changed)
    assert not same_code(changed, PROGRAM)
