"""Outputs that belong to one job: what is claimed, what is rejected, and that nothing strange is touched."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossnet.errors import UserError
from ossnet.output.claim import MARKER, claim_output, claimed_output, read_owner

NAMES = st.sampled_from(["study", "cases", "out", "über uns", "a b"])
JOBS = st.sampled_from(["prepare", "train", "tune", "predict", "verify"])


def test_a_new_folder_is_made_and_taken_again(tmp_path: Path) -> None:
    output = tmp_path / "deep" / "out"
    assert claim_output(output, "train") == output
    (output / "config.json").write_text("{}")
    assert claim_output(output, "train") == output
    assert read_owner(output) == "train"
    assert read_owner(tmp_path) is None


def test_an_empty_folder_and_hidden_files_are_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").write_text("x")
    claim_output(tmp_path, "tune")
    assert (tmp_path / ".DS_Store").read_text() == "x"


def test_another_jobs_output_is_rejected(tmp_path: Path) -> None:
    claim_output(tmp_path / "out", "train")
    with pytest.raises(
        UserError,
        match="expected a new folder, or one that ossnet tune made, found the output of ossnet train",
    ):
        claim_output(tmp_path / "out", "tune")


def test_files_that_no_job_made_are_rejected(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt", "c.txt", "d.txt"):
        (tmp_path / name).write_text(name)
    with pytest.raises(UserError, match=r"files that it did not make \(a\.txt, b\.txt, c\.txt and 1 more\)"):
        claim_output(tmp_path, "predict")
    assert not (tmp_path / MARKER).exists()


@pytest.mark.parametrize("owner", ["prepare", "predict"])
def test_nothing_is_written_into_a_store_or_among_predictions(tmp_path: Path, owner: str) -> None:
    claim_output(tmp_path / "out", owner)
    with pytest.raises(UserError, match=f"one inside the output of ossnet {owner}"):
        claim_output(tmp_path / "out" / "cases" / "mine", "train")


def test_a_report_may_lie_inside_the_study_that_it_is_of(tmp_path: Path) -> None:
    claim_output(tmp_path / "study", "tune")
    assert claim_output(tmp_path / "study" / "report", "report").is_dir()


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("study", "study"),
        ("study/cases", "study"),
        ("study", "study/store"),
        ("study/cases/a.nii", "study/cases"),
    ],
)
@pytest.mark.parametrize("linked", [None, "source", "output"])
def test_source_and_output_may_not_overlap(
    tmp_path: Path, source: str, output: str, linked: str | None
) -> None:
    (tmp_path / "study" / "cases").mkdir(parents=True)
    (tmp_path / "study" / "cases" / "a.nii").write_text("scan")
    paths = {"source": tmp_path / source, "output": tmp_path / output}
    if linked:
        link = tmp_path / "link"
        link.symlink_to(tmp_path / "study")
        name = source if linked == "source" else output
        paths[linked] = link / Path(name).relative_to("study")
    with pytest.raises(UserError, match="expected an output apart from the input"):
        claim_output(paths["output"], "prepare", sources=[paths["source"]])
    assert sorted(path.name for path in tmp_path.rglob("*") if path.name == MARKER) == []


def test_neighbors_do_not_overlap(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    claim_output(tmp_path / "scans-predicted", "predict", sources=[tmp_path / "scans"])


def test_an_output_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="expected a folder"):
        claim_output(tmp_path / "file", "train")
    with pytest.raises(UserError, match="expected a folder that can be written, found Not a directory"):
        claim_output(tmp_path / "file" / "below", "train")
    with pytest.raises(UserError, match="name another --output"):
        claim_output(Path("/proc/nowhere/out"), "train")


def test_a_marker_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / MARKER).write_text("[]")
    with pytest.raises(UserError, match="expected the marker of an output, found TypeError"):
        claim_output(tmp_path, "train")


@given(
    files=st.lists(st.lists(NAMES, min_size=1, max_size=3), max_size=4),
    source=st.lists(NAMES, max_size=3),
    output=st.lists(NAMES, min_size=1, max_size=3),
    link=st.none() | st.tuples(NAMES, st.lists(NAMES, max_size=2)),
    job=JOBS,
    again=JOBS,
)
def test_whatever_is_named_nothing_that_was_there_changes(
    tmp_path_factory: pytest.TempPathFactory,
    files: list[list[str]],
    source: list[str],
    output: list[str],
    link: tuple[str, list[str]] | None,
    job: str,
    again: str,
) -> None:
    root = tmp_path_factory.mktemp("layout")
    for names in files:
        folder = root.joinpath(*names)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "scan.nii").write_text("/".join(names))
    if link and not (root / link[0]).exists():
        (root / link[0]).symlink_to(root.joinpath(*link[1]), target_is_directory=True)
    before = {path: path.read_text() for path in root.rglob("scan.nii")}
    owners = {}
    for each in (job, again):
        try:
            claimed = claim_output(root.joinpath(*output), each, sources=[root.joinpath(*source)])
        except UserError:
            continue
        owners[each] = claimed
        assert not [path for path in claimed.rglob("*") if path.name != MARKER]
        here, there = Path(os.path.realpath(claimed)), Path(os.path.realpath(root.joinpath(*source)))
        assert here != there
        assert here not in there.parents
        assert there not in here.parents
    assert len(owners) <= 1 or job == again
    assert {path: path.read_text() for path in root.rglob("scan.nii")} == before


def test_what_was_made_for_nothing_goes_again(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), claimed_output(tmp_path / "runs" / "out", "train"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    with claimed_output(tmp_path / "runs" / "out", "train") as output:
        (output / "run.json").write_text("{}")
    assert read_owner(output) == "train"
    with pytest.raises(ZeroDivisionError), claimed_output(output, "train"):
        raise ZeroDivisionError
    assert read_owner(output) == "train"


CLAIM = """
import sys, time
from pathlib import Path
from ossnet.errors import UserError
from ossnet.output.claim import claimed_output

output, job, start = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
time.sleep(max(0.0, start - time.time()))
try:
    with claimed_output(output, job):
        (output / f"{job}.txt").write_text("made")
        print("inside", flush=True)
        sys.stdin.read()
except UserError as error:
    print(error)
"""


def start_claim(output: Path, job: str, at: float = 0.0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CLAIM, str(output), job, str(at)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("job", ["prepare", "train", "predict"])
def test_one_job_at_a_time_writes_to_an_output(tmp_path: Path, job: str) -> None:
    first = start_claim(tmp_path / "out", job)
    assert first.stdout is not None
    assert first.stdout.readline() == "inside\n"
    with (
        pytest.raises(
            UserError,
            match=rf"an ossnet {job} that is still running \(process {first.pid} on .*\); wait for its end",
        ),
        claimed_output(tmp_path / "out", job),
    ):
        pass
    assert read_owner(tmp_path / "out") == job
    first.kill()  # the lock goes, as no process holds it
    first.communicate()
    with claimed_output(tmp_path / "out", job) as output:
        assert (output / f"{job}.txt").read_text() == "made"


@pytest.mark.parametrize("jobs", [("prepare",) * 8, ("train", "tune") * 4, ("predict", "prepare") * 4])
def test_of_jobs_that_start_at_once_one_has_a_new_output(tmp_path: Path, jobs: tuple[str, ...]) -> None:
    at = time.time() + 2.0
    running = [start_claim(tmp_path / "out", job, at) for job in jobs]
    first_lines = []
    for each in running:
        assert each.stdout is not None
        first_lines.append(each.stdout.readline().strip())
    for each in running:
        each.communicate()
    assert first_lines.count("inside") == 1
    winner = jobs[first_lines.index("inside")]
    assert read_owner(tmp_path / "out") == winner
    assert {path.name for path in (tmp_path / "out").iterdir()} == {MARKER, f"{winner}.txt"}
    assert all(
        "; wait for its end" in line or "name another" in line for line in first_lines if line != "inside"
    )


@pytest.mark.parametrize(
    ("name", "content", "owner"),
    [
        ("manifest.json", '{"schema_version": 2, "fingerprint": "a"}', "prepare"),
        ("run.json", '{"id": "a"}', "train"),
        ("study.db", "SQLite format 3\0 and more", "tune"),
    ],
)
def test_outputs_of_versions_without_a_marker_are_known(
    tmp_path: Path, name: str, content: str, owner: str
) -> None:
    (tmp_path / name).write_text(content)
    assert read_owner(tmp_path) == owner
    assert claim_output(tmp_path, owner) == tmp_path
    with pytest.raises(UserError, match=f"found the output of ossnet {owner}"):
        claim_output(tmp_path, "verify")


@pytest.mark.parametrize("content", ["", "[]", '{"schema_version": 2}', '{"name": "web app"}'])
def test_a_foreign_file_of_such_a_name_claims_nothing(tmp_path: Path, content: str) -> None:
    for name in ("manifest.json", "run.json", "study.db"):
        (tmp_path / name).write_text(content)
    for job in ("prepare", "train", "tune"):
        with pytest.raises(UserError, match="files that it did not make"):
            claim_output(tmp_path, job)
