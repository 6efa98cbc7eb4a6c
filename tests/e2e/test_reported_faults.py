"""The faults that were reported, by the name of the program that shows each, and the tests of the right way.

Those tests have inputs of their own, and others of the same kind beside. What only shows in a job as a person
runs it is tested here.
"""

import ast
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from ossnet.data import write_phantom

Job = Callable[..., subprocess.CompletedProcess[str]]
TESTS = Path(__file__).parents[1]

REPORTED = {
    "artefact_store_that_cannot_be_written": "distributed/tracking/test_lost_metrics.py::"
    "test_files_that_cannot_be_written_hold_nothing_up",
    "case_ids_with_slashes": "e2e/test_reported_faults.py::test_any_id_stays_inside_the_store",
    "file_names_not_utf8": "e2e/test_reported_faults.py::test_file_names_that_are_no_text",
    "label_names_lose_metrics": "distributed/tracking/test_lost_metrics.py::test_every_class_has_its_metric",
    "label_names_that_collide": "data/layouts/test_names_and_completeness.py::"
    "test_labels_that_collide_are_kept_and_said",
    "label_stored_along_other_axes": "data/verification/test_unusual_files.py::"
    "test_a_label_stored_along_other_axes_makes_the_same_store",
    "label_values_wrap": "data/verification/test_unusual_files.py::"
    "test_large_and_negative_labels_reach_the_store",
    "long_case_names": "e2e/test_reported_faults.py::test_any_id_stays_inside_the_store",
    "long_tmpdir": "distributed/cluster/test_connection.py::"
    "test_ray_starts_with_the_tmpdir_of_a_batch_system",
    "one_name_in_many_folders": "data/layouts/test_names_and_completeness.py::"
    "test_one_name_in_many_folders_gives_a_case_each",
    "other_formats_are_told_to_be_copied_again": "data/verification/test_unusual_files.py::"
    "test_a_pair_is_a_case_of_a_table",
    "output_that_cannot_be_written": "commands/test_job_outputs.py::"
    "test_an_output_that_cannot_be_written_is_one_line",
    "percent_and_question_mark_in_paths": "distributed/test_sqlite.py::"
    "test_everything_lies_in_the_folder_that_was_given",
    "predict_overwrites_labels": "commands/test_predictions_kept.py::test_a_file_of_another_origin_is_kept",
    "prepare_deletes_scans": "commands/test_job_outputs.py::test_a_store_is_made_and_a_persons_files_stay",
    "qform_is_none_but_sform_is_good": "data/verification/test_unusual_files.py::"
    "test_a_broken_qform_is_a_warning_where_the_sform_counts",
    "repeats_are_told_as_too_large": "distributed/tuning/test_searcher.py::test_repeats_are_no_rejections",
    "same_modality_names": "data/layouts/test_names_and_completeness.py::"
    "test_each_channel_is_read_from_its_own_file",
    "silently_left_out": "e2e/test_reported_faults.py::test_every_scan_of_a_folder_is_read_or_reported",
    "space_with_constraint_or_helper": "distributed/tuning/test_searcher.py::"
    "test_what_the_space_forbids_is_drawn_again",
    "tune_replaces_a_trained_network": "output/test_claim.py::test_another_jobs_output_is_rejected",
    "tuple_choices": "distributed/tuning/test_choices.py::test_a_space_of_tuples",
    "two_first_starts": "distributed/test_sqlite.py::test_jobs_of_an_array_start_at_once",
    "two_jobs_one_new_experiment": "distributed/test_sqlite.py::test_jobs_of_an_array_start_at_once",
    "units_are_not_mm": "data/verification/test_unusual_files.py::test_a_store_is_the_same_in_any_unit",
    "vox_offset_zero": "data/verification/test_unusual_files.py::test_an_offset_of_0_is_read_right_and_said",
}


@pytest.mark.parametrize("name", REPORTED)
def test_every_report_has_its_test(name: str) -> None:
    file, _, function = REPORTED[name].partition("::")
    tree = ast.parse((TESTS / file).read_text())
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


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
