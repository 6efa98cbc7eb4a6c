"""Whatever is named as source and output: what was there before, and no job made, stays as it was."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ossnet.commands import bench, evaluate, plan, predict, prepare, report, train, tune, verify
from ossnet.data import write_phantom
from ossnet.data.prepare.build import make_case
from ossnet.data.prepare.plan import PreparePlan
from ossnet.data.prepare.survey import CaseInfo
from ossnet.data.store.case_file import write_case
from ossnet.errors import UserError
from ossnet.output.claim import claim_output

Main = Callable[[list[str]], None]

PLACES = [
    "study",
    "study/scans",
    "study/scans/imagesTr",
    "study/cases.csv",
    "store",
    "store/cases",
    "run",
    "run/checkpoint",
    "out",
    "out/cases",
    "link",
    "link/new",
]
MAINS: dict[str, Main] = {
    "prepare": prepare.main,
    "verify": verify.main,
    "predict": predict.main,
    "evaluate": evaluate.main,
    "plan": plan.main,
    "report": report.main,
    "train": train.main,
    "tune": tune.main,
    "bench": bench.main,
}
OWN = {"prepare": "store", "train": "run"}
"""The folder in the template that a job made, and what it may renew: all but what a person put there."""


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory, phantom_store: Path) -> Path:
    """Scans of one case, a store and a run, each with files of a person beside."""
    root = tmp_path_factory.mktemp("template")
    scans = write_phantom(root / "study" / "scans", cases=1, shape=(10, 10, 8), modalities=("FLAIR",))
    (scans / "imagesTr" / "phantom_000_seg.nii.gz").write_bytes(b"drawn by hand")
    (root / "study" / "verification.html").write_text("mine")
    case = "phantom_000,scans/imagesTr/phantom_000.nii.gz,scans/labelsTr/phantom_000.nii.gz"
    (root / "study" / "cases.csv").write_text(f"case,FLAIR,label\n{case}\n")
    shutil.copytree(phantom_store, root / "store")
    (root / "store" / "cases" / "mine.0123456789abcdef.arrow").write_bytes(b"mine")
    (root / "store" / "cases" / "notes.txt").write_text("mine")
    (root / "run" / "checkpoint").mkdir(parents=True)
    (root / "run" / "run.json").write_text(json.dumps({"schema": 2, "id": "a"}))
    (root / "run" / "config.json").write_text("{}")
    (root / "run" / "checkpoint" / "model.safetensors").write_bytes(b"weights")
    return root


def contents(root: Path) -> dict[str, bytes]:
    """Every file by its path, that of links by their target."""
    files = [path for path in root.rglob("*") if path.is_file() or path.is_symlink()]
    return {
        path.relative_to(root).as_posix(): bytes(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in files
    }


def run(job: str, source: Path, output: Path) -> int:
    """A job with these paths; its exit code."""
    words: dict[str, list[object]] = {
        "prepare": ["--source", source],
        "verify": ["--source", source],
        "predict": ["--checkpoint", source, "--input", source],
        "evaluate": ["--checkpoint", source, "--data", source],
        "plan": ["--data", source],
        "report": ["--experiment", "none"],
        "train": ["--data", source, "--model", "oss-net-a"],
        "tune": ["--data", source, "--space", "small", "--trials", "1"],
        "bench": ["models"],
    }
    try:
        MAINS[job]([str(word) for word in [*words[job], "--output", output]])
    except UserError:
        return 2
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def make_here(plan: PreparePlan, cases: list[CaseInfo], *more: object) -> Iterator[tuple[str, str | None]]:
    """What a cluster does, in a loop."""
    for info in cases:
        try:
            write_case(plan.path(info), make_case(info, plan.recipe))
        except UserError as error:
            yield info.id, str(error)
        else:
            yield info.id, None


@pytest.fixture
def no_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Cases are made here; what trains or measures ends where it would begin to."""
    from contextlib import nullcontext

    def stop(*arguments: object, **more: object) -> None:
        raise UserError("stop")

    monkeypatch.setattr("ossnet.distributed.data.prepare._make_all", make_here)
    monkeypatch.setattr("ossnet.distributed.data.prepare.connect", nullcontext)
    monkeypatch.setattr("ossnet.distributed.launch.connect_checked", stop)
    monkeypatch.setattr("ossnet.distributed.tuning.search_space.check_space", stop)
    monkeypatch.setattr("ossnet.commands.plan._plan", stop)
    monkeypatch.setattr("ossnet.benchmarks.measure_models", stop)
    monkeypatch.chdir(tmp_path)  # where the store of runs would be


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    jobs=st.lists(st.sampled_from(sorted(MAINS)), min_size=1, max_size=2),
    source=st.sampled_from(PLACES),
    output=st.sampled_from(PLACES),
    link=st.sampled_from(["study", "study/scans", "store", "store/cases", "run", "out", "nowhere"]),
)
def test_nothing_that_no_job_made_changes_or_goes(
    template: Path,
    tmp_path_factory: pytest.TempPathFactory,
    no_cluster: None,
    jobs: list[str],
    source: str,
    output: str,
    link: str,
) -> None:
    root = tmp_path_factory.mktemp("layout") / "root"
    shutil.copytree(template, root)
    (root / "link").symlink_to(root / link, target_is_directory=True)
    before = contents(root)
    own = {f"{OWN[job]}/" for job in jobs if job in OWN}
    mine = {name for name in before if not name.startswith(tuple(own)) or before[name] == b"mine"}
    for job in jobs:
        run(job, root / source, root / output)
    after = contents(root)
    assert {name: after.get(name) for name in mine} == {name: before[name] for name in mine}
    shutil.rmtree(root)


@pytest.mark.parametrize(
    ("source", "output", "code"),
    [
        ("study/scans", "new", 0),
        ("study/scans", "store", 0),  # of other scans: its cases are replaced
        ("study/cases.csv", "new", 0),
        ("study/scans", "study", 2),
        ("study/scans/imagesTr", "study/scans", 2),
        ("study/cases.csv", "study/scans", 2),
    ],
)
def test_a_store_is_made_and_a_persons_files_stay(
    template: Path, tmp_path: Path, no_cluster: None, source: str, output: str, code: int
) -> None:
    """That the jobs above do work, so that there is something to see."""
    root = tmp_path / "root"
    shutil.copytree(template, root)
    before = contents(root)
    assert run("prepare", root / source, root / output) == code
    after = contents(root)
    made = {name for name in after if name not in before}
    kept = {name for name, text in before.items() if not name.startswith("store/") or text == b"mine"}
    assert {name: after.get(name) for name in kept} == {name: before[name] for name in kept}
    cases = [name for name in made if name.startswith(f"{output}/cases/phantom_000.")]
    assert len(cases) == (code == 0)
    if output == "store":
        assert [name for name in after if name.endswith(".arrow")] == [
            name for name in after if name in {*cases, "store/cases/mine.0123456789abcdef.arrow"}
        ]


@pytest.mark.parametrize("files", ["cases", "other"])
def test_a_table_may_list_files_of_the_store_that_is_made_of_it(
    template: Path, tmp_path: Path, no_cluster: None, files: str
) -> None:
    """Scans that lie in a store, where only its own cases are swept."""
    shutil.copytree(template, tmp_path / "root")
    scans, store = tmp_path / "root" / "study" / "scans", tmp_path / "root" / "new"
    assert run("prepare", scans, store) == 0
    folder = store / files
    folder.mkdir(exist_ok=True)
    image, label = folder / "p.0123456789abcdef.nii.gz", folder / "q.nii.gz"
    shutil.copy(scans / "imagesTr" / "phantom_000.nii.gz", image)
    shutil.copy(scans / "labelsTr" / "phantom_000.nii.gz", label)
    table = tmp_path / "table.csv"
    table.write_text(f"case,FLAIR,label\np,{image},{label}\n")
    before = image.read_bytes(), label.read_bytes()
    assert run("prepare", table, store) == (0 if files == "cases" else 2)
    assert (image.read_bytes(), label.read_bytes()) == before


@pytest.mark.parametrize("job", sorted(MAINS))
@pytest.mark.parametrize("output", ["/proc/nowhere/out", "file", "file/below", "x" * 300])
def test_an_output_that_cannot_be_written_is_one_line(
    job: str, output: str, tmp_path: Path, no_cluster: None, phantom_store: Path
) -> None:
    (tmp_path / "file").write_text("kept")
    words = {
        "predict": ["--input", "scans"],
        "prepare": ["--source", "scans"],
        "verify": ["--source", "scans"],
        "train": ["--data", str(phantom_store)],
        "tune": ["--data", str(phantom_store), "--space", "small", "--trials", "1"],
        "report": ["--experiment", "none"],
    }
    with pytest.raises(UserError, match=r"expected a folder.*name another --output"):
        MAINS[job]([*words.get(job, []), "--output", str(tmp_path / output)])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("job", sorted(MAINS))
def test_each_job_rejects_the_output_of_every_other(
    job: str, template: Path, tmp_path: Path, no_cluster: None
) -> None:
    root = tmp_path / "root"
    shutil.copytree(template, root)
    for owner in sorted(MAINS.keys() - {job}):
        output = claim_output(root / f"of {owner}", owner)
        (output / "checkpoint").mkdir()
        (output / "checkpoint" / "model.safetensors").write_bytes(b"weights")
        before = contents(root)
        with pytest.raises(UserError, match=f"found the output of ossnet {owner}; name another --output"):
            MAINS[job](words(job, root, output))
        assert contents(root) == before


def words(job: str, root: Path, output: Path) -> list[str]:
    """A job with inputs that are there."""
    inputs: dict[str, list[object]] = {
        "predict": ["--checkpoint", root / "run" / "checkpoint", "--input", root / "study" / "scans"],
        "prepare": ["--source", root / "study" / "scans"],
        "verify": ["--source", root / "study" / "scans"],
        "evaluate": ["--checkpoint", root / "run" / "checkpoint", "--data", root / "store"],
        "plan": ["--data", root / "store"],
        "train": ["--data", root / "store"],
        "tune": ["--data", root / "store", "--space", "small", "--trials", "1"],
        "report": ["--experiment", "none"],
        "bench": ["models"],
    }
    return [str(word) for word in [*inputs[job], "--output", output]]
