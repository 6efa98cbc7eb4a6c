"""jobs/prepare.py as a person would run it."""

import json
import os
import random
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel
import numpy as np
import pytest
from ray_workers import busy, kill, workers_of

from ossnet.data import PrepareConfig, Store, write_phantom
from ossnet.data.prepare.plan import make_plan

JOB = Path(__file__).parents[2] / "jobs" / "prepare.py"
MAKING = "_make_row"  # in the title of a process that makes a case right now


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """Three phantom cases; read only."""
    return write_phantom(tmp_path_factory.mktemp("study") / "scans", cases=3, shape=(16, 16, 16))


@pytest.fixture
def scans(study, tmp_path) -> Path:
    """A copy to be spoilt."""
    return Path(shutil.copytree(study, tmp_path / "scans"))


@pytest.fixture
def run(monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    """The real script in this process: exit code, output and error stream."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [str(JOB), *map(str, arguments)])
        code: object = 0
        try:
            runpy.run_path(str(JOB), run_name="__main__")
        except SystemExit as leaving:
            code = leaving.code or 0
        captured = capsys.readouterr()
        assert isinstance(code, int)
        return code, captured.out, captured.err

    return run


def command(*arguments: object) -> list[str]:
    return [sys.executable, str(JOB), *map(str, arguments)]


def label_of(scans: Path, number: int) -> Path:
    return scans / "labelsTr" / f"phantom_{number:03d}.nii.gz"


def image_of(scans: Path, number: int) -> Path:
    return scans / "imagesTr" / f"phantom_{number:03d}.nii.gz"


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    image = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(change(np.asarray(image.dataobj)), image.affine, image.header), path)


def truncate(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 4 // 5])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def without_progress(errors: str) -> list[str]:
    """Lines of the error stream without progress, which is printed where preparing takes long."""
    return [line for line in errors.splitlines() if not line.startswith("preparing: ")]


def assert_rejected(outcome: tuple[int, str, str], *expected: str) -> None:
    """Exit code 2 and one line that says all that is expected."""
    code, output, errors = outcome
    assert code == 2, errors
    assert output == ""
    (line,) = without_progress(errors)
    assert line.startswith("error: ")
    for text in expected:
        assert text in line


def test_a_missing_folder(run, tmp_path):
    outcome = run("--source", tmp_path / "nowhere", "--output", tmp_path / "store")
    assert_rejected(outcome, "nowhere: expected a folder of scans, found no folder")
    assert not (tmp_path / "store").exists()


def test_an_unknown_layout(run, tmp_path):
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "scan.dcm").touch()
    outcome = run("--source", tmp_path / "scans", "--output", tmp_path / "store")
    assert_rejected(outcome, "expected a known layout", "found scan.dcm", "--layout")
    assert not (tmp_path / "store").exists()


def test_a_missing_output(run, study):
    assert_rejected(run("--source", study), "--output: expected the folder of the store")


def test_a_misspelt_option(run, study, tmp_path):
    outcome = run("--source", study, "--output", tmp_path / "store", "--spacin", "1,1,1")
    assert_rejected(outcome, "did you mean '--spacing'")


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (
            lambda scans: label_of(scans, 1).unlink(),
            "labelsTr/phantom_001.nii.gz: expected a NIfTI file, found no file",
        ),
        (
            lambda scans: rewrite(label_of(scans, 1), lambda label: label[1:]),
            "expected the shape (16, 16, 16)",
        ),
    ],
    ids=["image without label", "other grid"],
)
def test_faults_of_headers_are_fatal_when_strict(run, scans, tmp_path, spoil, expected):
    spoil(scans)
    outcome = run("--source", scans, "--output", tmp_path / "store", "--strict")
    assert_rejected(outcome, expected)
    assert {entry.name for entry in tmp_path.iterdir()} == {"scans"}


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda scans: truncate(image_of(scans, 1)), "phantom_001.nii.gz: expected 32768 bytes of voxels"),
        (lambda scans: rewrite(label_of(scans, 1), lambda label: label + 200), "found 200, 201"),
    ],
    ids=["truncated", "strange label"],
)
def test_faults_of_voxels_are_excluded_or_fatal(run, scans, tmp_path, spoil, expected):
    spoil(scans)
    arguments = ("--source", scans, "--output", tmp_path / "store")
    assert_rejected(run(*arguments, "--strict"), expected)
    assert {entry.name for entry in tmp_path.iterdir()} == {"scans"}
    code, output, errors = run(*arguments, "--json")
    assert code == 0
    result = json.loads(output)
    assert result["cases"] == 2
    assert expected in result["excluded"]["phantom_001"]
    (line,) = without_progress(errors)
    assert line.startswith("excluded: ")
    assert expected in line


@pytest.mark.usefixtures("cluster")
def test_options_and_closing_words(run, study, tmp_path):
    store = tmp_path / "store"
    spacing = ("--spacing", "2,2,2")
    code, output, _ = run(
        "--source", study, "--output", store, *spacing, "--target", "foreground", "--layout", "msd"
    )
    assert code == 0
    assert "3 (2 training, 1 validation, 0 test)" in output
    assert f"Next: ossnet train --data {store}" in output
    task = Store.open(store).task
    assert (task.spacing, task.labels) == ((2.0, 2.0, 2.0), {"foreground": 1})
    code, output, _ = run(
        "--source", study, "--output", store, "--spacing", "2", "2", "2", "--target", "foreground"
    )
    assert code == 0
    assert "0 in " in output  # nothing was made again


@pytest.mark.usefixtures("cluster")
def test_what_is_stored_and_how_it_is_divided(run, study, tmp_path):
    store = tmp_path / "store"
    spacing = ("--spacing", "2,2,2", "--interpolation", "linear", "--crop", "1.5")
    kinds = ("--normalization", "zscore", "ct", "auto", "zscore", "--storage", "int16")
    assert run("--source", study, "--output", store, *spacing, *kinds, "--folds", "3")[0] == 0
    opened = Store.open(store)
    task = opened.task
    assert (task.interpolation, task.crop) == ("linear", 1.5)
    assert task.normalization == ("zscore", "ct", "zscore-foreground", "zscore")
    assert {entry.statistics.storage for entry in opened.manifest.cases.values()} == {"int16"}
    assert [len(fold) for fold in opened.manifest.folds] == [1, 1, 1]
    mine = tmp_path / "mine.csv"
    mine.write_text("case,split\nphantom_000,test\nphantom_001,training\nphantom_002,validation\n")
    code, output, _ = run("--source", study, "--output", store, *spacing, *kinds, "--splits", mine)
    assert code == 0
    assert "3 (1 training, 1 validation, 1 test)" in output
    assert "0 in " in output  # only the manifest was made again
    mine.write_text("case,split\nphantom_000,test\n")
    assert_rejected(
        run("--source", study, "--output", store, "--splits", mine),
        "mine.csv: expected a split for every case",
    )


@pytest.mark.usefixtures("cluster")
def test_a_store_of_a_newer_version_is_kept(run, study, tmp_path):
    assert run("--source", study, "--output", tmp_path / "store")[0] == 0
    manifest = tmp_path / "store" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"schema_version": 3', '"schema_version": 4'))
    before = contents(tmp_path)
    outcome = run("--source", study, "--output", tmp_path / "store")
    assert_rejected(outcome, "expected store schema version 3, found version 4; update ossnet")
    assert contents(tmp_path) == before


@pytest.mark.slow
def test_without_arguments_it_prepares_a_phantom_study_once(run, tmp_path, monkeypatch):
    first = subprocess.run(
        command("--json"), cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert first.returncode == 0, first.stderr
    result = json.loads(first.stdout)
    assert result["prepared"] == result["cases"] == 12
    assert Path(result["output"]) == tmp_path / "runs" / "phantom" / "store"
    assert len(Store.open(Path(result["output"])).split("validation")) == 2
    before = contents(tmp_path)
    monkeypatch.chdir(tmp_path)
    code, output, _ = run("--json")
    assert (code, json.loads(output)["prepared"]) == (0, 0)
    assert contents(tmp_path) == before


@pytest.mark.usefixtures("cluster")
def test_killed_it_continues_where_it_stood(run, tmp_path):
    scans = write_phantom(tmp_path / "scans", cases=16, shape=(40, 40, 40), modalities=["FLAIR"])
    store, arguments = (
        tmp_path / "store",
        ("--source", tmp_path / "scans", "--output", tmp_path / "store", "--json"),
    )
    with subprocess.Popen(
        command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as driver:
        made = 0
        while driver.poll() is None and made < 3:
            time.sleep(0.02)
            made = len(list((store / "cases").glob("[!.]*.arrow")))
        os.kill(driver.pid, signal.SIGKILL)
    assert not (store / "manifest.json").exists()
    time.sleep(3)  # its workers end
    kept = {path: path.stat().st_mtime_ns for path in (store / "cases").glob("[!.]*.arrow")}
    assert 3 <= len(kept) < 16
    code, output, _ = run(*arguments)
    assert code == 0
    assert json.loads(output)["prepared"] == 16 - len(kept)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert {path.name for path in store.glob("[!.]*")} == {"cases", "manifest.json"}
    assert len(list((store / "cases").iterdir())) == 16
    assert run("--source", scans, "--output", tmp_path / "again")[0] == 0
    assert contents(tmp_path / "again") == contents(store)


@contextmanager
def preparing(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """The job at work; waited for at the end."""
    with subprocess.Popen(
        command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as driver:
        yield driver
        driver.wait(timeout=300)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[list[object], Path]:
    """Options of a run that takes a while, and the store that it leaves if nobody kills it."""
    folder = tmp_path_factory.mktemp("whole")
    scans = write_phantom(folder / "scans", cases=24, shape=(64, 64, 64), modalities=["FLAIR", "T1w"])
    truncate(image_of(scans, 7))  # a bad case is reported again
    options = ["--source", scans, "--crop", "2", "--spacing", "1.5,1.5,1.5", "--folds", "3", "--json"]
    subprocess.run(command(*options, "--output", folder / "store"), capture_output=True, check=True)
    return options, folder / "store"


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["driver", "worker"])
@pytest.mark.parametrize("seed", range(5))
def test_killed_at_any_moment_it_leaves_what_a_run_of_its_own_would(whole, tmp_path, whom, seed):
    options, expected = whole
    rng, store = random.Random(f"{whom} {seed}"), tmp_path / "store"
    with preparing(*options, "--output", store) as driver:
        wanted = rng.randint(0, 23)
        while driver.poll() is None and len(list(store.glob("cases/[!.]*"))) < wanted:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.3))
        workers = [] if whom == "driver" else busy(driver.pid, MAKING) or list(workers_of(driver.pid))
        kill([driver.pid] if whom == "driver" else workers[:1])
    assert driver.returncode == (-signal.SIGKILL if whom == "driver" else 0)
    done = subprocess.run(command(*options, "--output", store), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert contents(store) == contents(expected)
    assert Store.open(store).manifest.excluded.keys() == {"phantom_007"}
    assert len(contents(store)) == 25  # 23 cases, the manifest and the marker of the output


@pytest.mark.slow
def test_workers_that_always_die_end_the_run_with_a_word_and_it_continues_later(whole, tmp_path):
    options, expected = whole
    store = tmp_path / "store"
    with preparing(*options, "--output", store) as driver:
        while driver.poll() is None:
            kill(busy(driver.pid, MAKING))
            time.sleep(0.02)
        assert driver.stderr is not None
        last = driver.stderr.read().splitlines()[-1]
    assert driver.returncode == 2
    assert last.startswith("error: ")
    assert "was lost 4 times (WorkerCrashedError), as happens when RAM runs out" in last
    assert (
        subprocess.run(command(*options, "--output", store), capture_output=True, check=False).returncode == 0
    )
    assert contents(store) == contents(expected)


@pytest.mark.slow
def test_as_many_cases_at_once_as_memory_allows_not_as_there_are_cpus(tmp_path):
    scans = write_phantom(tmp_path / "scans", cases=6, shape=(160, 160, 120))
    needed = max(
        survey.memory for survey in make_plan(PrepareConfig(scans, tmp_path / "store")).surveys.values()
    )
    script = f"""
import ray
from pathlib import Path
from ossnet.data import PrepareConfig
from ossnet.distributed.data.prepare import prepare
ray.init(address="local", num_cpus=6, _memory={int(2.5 * needed)}, include_dashboard=False)
prepare(PrepareConfig(Path({str(scans)!r}), Path({str(tmp_path / "store")!r})))
"""
    most = 0
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL) as driver:
        while driver.poll() is None:
            most = max(most, len(busy(driver.pid, MAKING)))
            time.sleep(0.02)
    assert driver.returncode == 0
    assert len(Store.open(tmp_path / "store").split("all")) == 6
    assert most == 2
