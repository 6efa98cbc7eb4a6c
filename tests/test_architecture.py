"""The shape of the house: arrows point down, heavy libraries stay upstairs, files and jobs stay small."""

import ast
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ossnet"
SOURCES = sorted(PACKAGE.rglob("*.py"))
JOBS = sorted((ROOT / "jobs").glob("*.py"))
COMMANDS = sorted((PACKAGE / "commands").glob("[!_]*.py"))

# From the top down; names on one line may import one another.
LAYERS = (
    {"commands"},
    {"distributed"},
    {"benchmarks"},
    {"training_run"},
    {"planning"},
    {"config", "sizing"},
    {"evaluation"},
    {"inference"},
    {"training"},
    {"sampling"},
    {"memory"},
    {"data"},
    {"models"},
    {"config_tree"},
    {"errors", "metric_names", "output", "schemas"},
    {"plugins"},
)
DEPTH = {name: depth for depth, layer in enumerate(LAYERS) for name in layer}

# The same inside packages that have rooms. OTHERS are the files and folders that the table does not name.
OTHERS = "all others"
ROOMS: dict[str, tuple[set[str], ...]] = {
    "distributed": (
        {"demo"},
        {"folds"},
        {"launch", "doctor"},
        {"pace"},
        {"reports", "benchmark", "serving"},
        {"tuning"},
        {"training"},
        {"data"},
        {"tracking", "cluster"},
        {"_optuna", "_ray", "_sqlite"},
    ),
    "data": ({"verification"}, {"prepare"}, {"layouts", "phantom"}, {"store"}, {"imaging"}, {"labels"}),
    "inference": (
        {"batch"},
        {"export", "ensemble"},
        {"predictor"},
        {"volume"},
        {"methods"},
        {"query"},
        {"components", "config", "give_up", "scans", "temperature"},
    ),
    "models": ({OTHERS}, {"kernels"}),
}
INSIDE = {
    package: [
        path
        for path in SOURCES
        if PACKAGE / package in path.parents and path != PACKAGE / package / "__init__.py"
    ]
    for package in ROOMS
}
UPPER_FLOOR = {"commands", "distributed"}
ONLY_UPSTAIRS = {"ray", "optuna", "mlflow"}
HEAVY = ONLY_UPSTAIRS | {"monai", "matplotlib", "pandas"}
OF_MODELS = {"torch", "jaxtyping", "monai", "lazy_loader"}

LONGEST_FILE = 400
MOST_FILES = 16  # directly in a folder; a stub counts with its module
LONGEST_JOB = 8
LONGEST_COMMAND_FUNCTION = 40


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path) for path in SOURCES}


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, at its top, inside functions, for types only, or by name."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            outer = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*outer, *([node.module] if node.module else [])])
            members = [f"{origin}.{alias.name}" for alias in node.names]
            yield from (member if member in MODULES else origin for member in members)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield name.value if not name.value.startswith(".") else ".".join(package) + name.value


def part(module: str) -> str:
    """The file or folder directly inside ossnet/ that a module belongs to; empty for the package itself."""
    _, *inner = module.split(".")
    return inner[0] if inner else ""


def room_depth(package: str, module: str) -> int | None:
    """How far down in its package a module's room lies; None for the package itself, and outside of it."""
    _, *inner = module.split(".")
    if len(inner) < 2 or inner[0] != package:
        return None
    layers = ROOMS[package]
    found = [depth for depth, layer in enumerate(layers) if inner[1] in layer]
    others = [depth for depth, layer in enumerate(layers) if OTHERS in layer]
    assert found or others, f"give {package}/{inner[1]} its place in ROOMS"
    return (found or others)[0]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_imports_point_down(path: Path) -> None:
    here = part(module_name(path))
    if not here:
        return
    assert here in DEPTH, f"{relative(path)}: give {here!r} its place in LAYERS"
    ours = {part(module) for module in imports(path) if module.split(".")[0] == "ossnet"} - {"", here}
    upwards = {other for other in ours if DEPTH[other] < DEPTH[here]}
    assert not upwards, f"{relative(path)} imports {', '.join(sorted(upwards))} from above"


@pytest.mark.parametrize(
    ("package", "path"),
    [(package, path) for package, paths in INSIDE.items() for path in paths],
    ids=lambda value: relative(value) if isinstance(value, Path) else None,
)
def test_imports_point_down_from_room_to_room(package: str, path: Path) -> None:
    here = room_depth(package, module_name(path))
    assert here is not None
    depths = {module: room_depth(package, module) for module in imports(path)}
    upwards = {module for module, depth in depths.items() if depth is not None and depth < here}
    assert not upwards, f"{relative(path)} imports {', '.join(sorted(upwards))} from above"


def test_no_folder_is_crowded() -> None:
    files = [
        path for folder in ("ossnet", "jobs", "search_spaces") for path in (ROOT / folder).rglob("*.py*")
    ]
    names = {(path.parent, path.stem) for path in files if path.suffix in {".py", ".pyi"}}
    counts = Counter(folder for folder, _ in names)
    crowded = {relative(folder): count for folder, count in counts.items() if count > MOST_FILES}
    assert not crowded, f"give these folders rooms: {crowded}"


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_the_ground_floor_imports_no_cluster(path: Path) -> None:
    if part(module_name(path)) == "distributed":
        return
    used = {module.split(".")[0] for module in imports(path)} & ONLY_UPSTAIRS
    assert not used, (
        f"{relative(path)} imports {', '.join(sorted(used))}: that belongs into ossnet/distributed"
    )


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if PACKAGE / "models" in path.parents], ids=relative
)
def test_models_need_torch_alone(path: Path) -> None:
    # Packages can add networks: `ossnet.plugins`, the lowest layer, finds them with the standard library.
    outside = {module for module in imports(path) if not module.startswith("ossnet.models")}
    outside -= {"ossnet.plugins"}
    foreign = {module.split(".")[0] for module in outside} - set(sys.stdlib_module_names) - OF_MODELS
    assert not foreign, f"{relative(path)} imports {', '.join(sorted(foreign))}"


def test_the_ground_floor_imports_without_heavy_libraries() -> None:
    names = [name for layer in reversed(LAYERS) for name in sorted(layer - UPPER_FLOOR)]
    names = [f"ossnet.{name}" for name in names if f"ossnet.{name}" in MODULES]
    script = (
        "import importlib, json, sys\n"
        "loaded = {}\n"
        "for name in json.loads(sys.argv[1]):\n"
        "    importlib.import_module(name)\n"
        "    loaded[name] = sorted(set(json.loads(sys.argv[2])) & sys.modules.keys())\n"
        "print(json.dumps(loaded))\n"
    )
    command = [sys.executable, "-c", script, json.dumps(names), json.dumps(sorted(HEAVY))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    guilty = {name: found for name, found in json.loads(done.stdout).items() if found}
    assert not guilty, f"the first of these brings the libraries in: {guilty}"


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_files_own_one_idea(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines < LONGEST_FILE, f"{relative(path)} has {lines} lines: it probably owns two ideas"


@pytest.mark.parametrize("path", JOBS, ids=relative)
def test_jobs_only_name_a_command(path: Path) -> None:
    assert len(path.read_text().splitlines()) < LONGEST_JOB, f"{relative(path)}: see ossnet/commands"


@pytest.mark.parametrize("path", COMMANDS, ids=relative)
def test_commands_are_thin(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno is not None
            lines = node.end_lineno - node.lineno + 1
            assert lines <= LONGEST_COMMAND_FUNCTION, f"{relative(path)}: {node.name} has {lines} lines"


def tracked() -> list[Path]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


# Assembled, so that this file does not name them either.
MACHINE = "|".join(rf"{name}/" for name in ("work", "root", "tmp", "opt", r"home/(?!ubuntu/|ray/)\w+"))
HOSTS = "|".join(
    rf"{name}\.{end}" for name, end in (("pypi", "org"), ("pytorch", "org"), ("pythonhosted", "org"))
)
FORBIDDEN = re.compile(rf"(?<![\w.~$}})/-])/(?:{MACHINE})|(?:{HOSTS})")


def test_no_file_names_a_machine_or_a_registry() -> None:
    found = []
    for path in tracked():
        try:
            lines = path.read_text().splitlines()
        except UnicodeDecodeError:
            continue
        found += [
            f"{relative(path)}:{n}: {line.strip()}"
            for n, line in enumerate(lines, 1)
            if FORBIDDEN.search(line)
        ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("line", "forbidden"),
    [
        ("cd /" + "work/main", True),
        ('open("/' + 'tmp/x")', True),
        ("/" + "home/jane/scans", True),
        ("pip install --index-url https://" + "pypi" + ".org/simple", True),
        ("/home/ubuntu/ossnet: ossnet", False),
        ("see ossnet/work/tmp/file and $HOME/tmp/", False),
    ],
)
def test_what_counts_as_a_machine_or_a_registry(line: str, forbidden: bool) -> None:
    assert bool(FORBIDDEN.search(line)) == forbidden
