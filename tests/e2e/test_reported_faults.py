"""Faults that were reported: each has its tests (`reported_faults.py`), and its program shows it no longer.

What only shows in a job as a person runs it is tested here.
"""

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from reported_faults import KINDS

from ossnet.data import write_phantom

Job = Callable[..., subprocess.CompletedProcess[str]]
TESTS, ROOT = Path(__file__).parents[1:3]

OLD_NAMES = "imports modules by the names of before"
NOT_RUN = {
    "artefact_store_that_cannot_be_written": OLD_NAMES,
    "percent_and_question_mark_in_paths": OLD_NAMES,
    "two_first_starts": OLD_NAMES,
    "two_jobs_one_new_experiment": OLD_NAMES,
    "other_formats_are_told_to_be_copied_again": "expects an error where the file is read now",
}
"""Programs that cannot show it any more; the tests in the table do the same."""
REPORTED = sorted(name for kind in KINDS.values() for name in kind.reported)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_tests_and_three_further_inputs(kind: str) -> None:
    assert len(KINDS[kind].further) >= 3
    for test in KINDS[kind].tests():
        file, _, function = test.partition("::")
        tree = ast.parse((TESTS / file).read_text())
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, test


def test_every_program_is_in_the_table(shared: Path) -> None:
    programs = {path.stem for path in (shared / "repro").glob("*.py")} - {"common"}
    assert set(REPORTED) == programs


@pytest.mark.slow
@pytest.mark.parametrize("name", REPORTED)
def test_a_program_that_shows_a_fault_no_longer_does(name: str, shared: Path, tmp_path: Path) -> None:
    if name in NOT_RUN:
        pytest.skip(NOT_RUN[name])
    product = tmp_path / "product"
    product.mkdir()
    (product / ".venv").symlink_to(sys.prefix)
    (product / "jobs").symlink_to(ROOT / "jobs")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PRODUCT": str(product), "WORK": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-B", shared / "repro" / f"{name}.py"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    check_verdicts(done.stdout)


def check_verdicts(printed: str) -> None:
    """Every verdict is a good one; where a program has none, its jobs end well."""
    lines = printed.splitlines()
    exits = [line.partition(",")[0] for line in lines if line.startswith("  -> exit ")]
    assert "as it should be" in printed or (exits and set(exits) == {"  -> exit 0"}), printed
    assert "  -> exit 3" not in exits, printed
    wrong = [line for line in lines if line.startswith("WRONG")]
    assert all(line.endswith("written outside the store: no") for line in wrong), printed


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    return write_phantom(tmp_path / "scans", cases=4, shape=(14, 12, 10), modalities=("FLAIR",))


IDS = ("../../outside", "siteA/p1", "S" * 214, "a\\b:c*?")


def test_any_id_stays_inside_the_store(scans: Path, run_job: Job, tmp_path: Path) -> None:
    entries = {
        name: {
            "images": [f"imagesTr/phantom_{number:03d}.nii.gz"],
            "label": f"labelsTr/phantom_{number:03d}.nii.gz",
        }
        for number, name in enumerate(IDS)
    }
    description = {"channel_names": {"0": "FLAIR"}, "file_ending": ".nii.gz", "numTraining": 4}
    labels = {"background": 0, "a": 1, "b": 2, "c": 3}
    (scans / "dataset.json").write_text(json.dumps({**description, "labels": labels, "dataset": entries}))
    done = run_job("prepare", "--source", scans, "--output", tmp_path / "deep" / "er" / "store", "--json")
    assert (done.returncode, done.stderr.count("excluded")) == (0, 0), done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["cases"] == 4
    manifest = json.loads((tmp_path / "deep" / "er" / "store" / "manifest.json").read_text())
    assert set(manifest["cases"]) == set(IDS)
    files = {path.name for path in tmp_path.rglob("*.arrow")}
    assert files == {Path(entry["file"]).name for entry in manifest["cases"].values()}
    assert {path.parent for path in tmp_path.rglob("*.arrow")} == {
        tmp_path / "deep" / "er" / "store" / "cases"
    }


def test_file_names_that_are_no_text(scans: Path, run_job: Job, tmp_path: Path) -> None:
    """Names in Latin-1, half a character of UTF-8 and a byte that no text has."""
    description = json.loads((scans / "dataset.json").read_text())
    names = [b"bj\xf6rn", b"\xe4", b"a\xff b"]
    for number, name in enumerate(names):
        for folder in ("imagesTr", "labelsTr"):
            end = b"_0000.nii.gz" if folder == "imagesTr" else b".nii.gz"
            target = bytes(scans / folder) + b"/" + name + end
            (scans / folder / f"phantom_{number:03d}.nii.gz").rename(
                target.decode("utf-8", "surrogateescape")
            )
    for folder in ("imagesTr", "labelsTr"):
        (scans / folder / "phantom_003.nii.gz").unlink()
    labels = {name: int(value) for value, name in description["labels"].items()}
    (scans / "dataset.json").write_text(
        json.dumps({"channel_names": {"0": "FLAIR"}, "labels": labels, "file_ending": ".nii.gz"})
    )
    done = run_job("verify", "--source", scans, "--output", tmp_path / "found", "--json")
    assert done.returncode == 0, done.stderr
    ids = {case["case"] for case in json.loads(done.stdout.splitlines()[-1])["cases"]}
    assert ids == {r"bj\xf6rn", r"\xe4", r"a\xff b"}


def test_every_scan_of_a_folder_is_read_or_reported(scans: Path, run_job: Job, tmp_path: Path) -> None:
    """A link to nowhere, an ending in upper case that is listed nowhere, and another format."""
    for folder in ("imagesTr", "labelsTr"):
        (scans / folder / "phantom_001.nii.gz").unlink()
        (scans / folder / "phantom_001.nii.gz").symlink_to("/nowhere")
    shutil.copy(scans / "imagesTr" / "phantom_002.nii.gz", scans / "imagesTr" / "stray.NII.GZ")
    (scans / "imagesTr" / "other.mha").write_text("ObjectType = Image")
    verified = run_job("verify", "--source", scans, "--output", tmp_path / "found", "--json")
    assert verified.returncode == 2
    where = " ".join(issue["where"] for issue in json.loads(verified.stdout.splitlines()[-1])["findings"])
    assert all(name in where for name in ("phantom_001", "stray", "other"))
    prepared = run_job("prepare", "--source", scans, "--output", tmp_path / "store", "--json")
    assert prepared.returncode == 0, prepared.stderr
    report = json.loads(prepared.stdout.splitlines()[-1])
    assert report["cases"] == 3
    assert all(name in prepared.stderr for name in ("phantom_001", "stray", "other"))
    image = nibabel.load(scans / "imagesTr" / "phantom_002.nii.gz")
    assert np.asarray(image.dataobj).shape == (14, 12, 10)
