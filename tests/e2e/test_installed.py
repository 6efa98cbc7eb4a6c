"""The wheel, installed without the repository, runs the jobs from any folder."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILT_FROM = ("ossnet", "search_spaces", "pyproject.toml", "setup.py", "README.md", "LICENSE")
Run = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: building leaves files behind."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / "source" / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, folder / "source" / name)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", folder]
    subprocess.run([*command, folder / "source"], check=True, capture_output=True)
    (made,) = folder.glob("ossnet-*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command `ossnet` of an environment that has the wheel, and this one's libraries but not its ossnet.

    A path that a `.pth` file names is searched, but the `.pth` files in there, as that of an editable
    install, are not read.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    paths = {"base": str(folder), "platbase": str(folder)}
    (Path(sysconfig.get_path("purelib", vars=paths)) / "libraries.pth").write_text(
        "\n".join({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    )
    binaries = Path(sysconfig.get_path("scripts", vars=paths))
    pip = [sys.executable, "-m", "pip", "--python", str(binaries / "python")]
    install = ["install", "--no-deps", "--ignore-installed", str(wheel)]
    subprocess.run([*pip, *install], check=True, capture_output=True)
    return binaries / "ossnet"


def outside() -> dict[str, str]:
    """The environment of a process that must not find the repository."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return kept | {"OMP_NUM_THREADS": "1"}


@pytest.fixture
def ossnet(installed: Path, tmp_path: Path) -> Run:
    """Run a job of the installed command in an empty folder."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(installed), *map(str, arguments)],
            cwd=tmp_path,
            env=outside(),
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_the_wheel_holds_the_package_its_spaces_templates_and_types(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    package = {path.relative_to(ROOT).as_posix() for path in (ROOT / "ossnet").rglob("*.py")}
    spaces = {f"ossnet/search_spaces/{path.name}" for path in (ROOT / "search_spaces").glob("*.py")}
    others = {
        path.relative_to(ROOT).as_posix()
        for suffix in ("pyi", "html", "json", "typed")
        for path in (ROOT / "ossnet").rglob(f"*.{suffix}")
    }
    assert "ossnet/py.typed" in others
    inside = {name for name in names if name.startswith("ossnet/")}
    assert inside == package | spaces | others
    assert {name.split("/")[0] for name in names - inside} == {f"{wheel.name.split('-py3')[0]}.dist-info"}


def test_it_plans(ossnet: Run) -> None:
    done = ossnet("plan", "--model", "oss-net-c")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].startswith("oss-net-c")
    assert "fit a GPU of 8 GB" in done.stdout


def test_it_searches_a_space_that_it_brings(ossnet: Run, tmp_path: Path) -> None:
    tiny = ("--training.epochs", 1, "--sampling.points", 32, "--training.validate-every", 1)
    done = ossnet("tune", "--space", "optimizer", "--trials", 2, *tiny, "--output", "study")
    assert done.returncode == 0, done.stderr
    assert "Next: ossnet report --experiment optimizer" in done.stdout
    assert (tmp_path / "study" / "study.db").is_file()


def test_it_walks_the_way_of_the_readme_with_own_scans(
    installed: Path, ossnet: Run, phantom_store: Path, tmp_path: Path
) -> None:
    """Its commands with the times of a test, and its snippet."""
    page = (ROOT / "README.md").read_text()
    section = page[page.index("## Your own scans") :]
    commands, snippet = (
        re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)[1]  # type: ignore[index]
        for language in ("bash", "python")
    )
    shutil.copytree(phantom_store.parent / "source", tmp_path / "scans")
    shutil.copy(min((tmp_path / "scans" / "imagesTr").iterdir()), tmp_path / "new_scan.nii.gz")
    walked = list[str]()
    for line in commands.splitlines():
        python, script, *options = shlex.split(re.sub(r"--max-time \w+", "--max-time 2m", line))
        assert python == "python"
        walked.append(Path(script).stem)
        done = ossnet(walked[-1], *options)
        assert done.returncode == 0, done.stdout + done.stderr
    assert walked == ["verify", "prepare", "tune", "evaluate", "predict", "train"]
    assert list((tmp_path / "runs" / "predictions").glob("new_scan*_seg.nii.gz"))
    assert (tmp_path / "runs" / "study" / "report" / "report.html").is_file()
    subprocess.run([installed.with_name("python"), "-c", snippet], cwd=tmp_path, env=outside(), check=True)
    assert (tmp_path / "labels.nii.gz").is_file()


def test_it_plans_the_network_of_another_package(
    installed: Path, plugin_example: Path, tmp_path: Path
) -> None:
    shape = ("--sampling.working-shape", "16", "16", "16")
    done = subprocess.run(
        [str(installed), "plan", "--model", "plain-stack", *shape, "--json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(plugin_example)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (planned,) = json.loads(done.stdout.splitlines()[-1])["estimates"]
    assert planned["name"] == "plain-stack"
