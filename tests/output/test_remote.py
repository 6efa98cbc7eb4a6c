"""Outputs on object storage: S3 as moto serves it on loopback, and machines that have only that in common."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from s3_server import S3Server

from ossnet.errors import UserError
from ossnet.output.claim import claimed_output, job_folder
from ossnet.output.remote import lock
from ossnet.output.remote.copies import (
    fetch_folder,
    fetch_folders,
    fetch_input,
    keep_changed,
    keep_folder,
    location_of,
    written,
)
from ossnet.output.remote.folder import RemoteFolder
from ossnet.output.writer_lock import Writer

Machine = Callable[[str], None]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Go on as another machine, which has a disk of its own."""
    monkeypatch.setattr(lock, "_SETTLE_S", 0.0)

    def go_to(name: str) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))

    go_to("a")
    return go_to


@pytest.fixture
def url(s3: S3Server, request: pytest.FixtureRequest) -> Path:
    """As it comes from the command line: an option's path has lost a slash."""
    return Path(f"s3://{s3.bucket}/{request.node.name}/run")


def keys(s3: S3Server, url: Path) -> set[str]:
    """The names of the objects below a URL."""
    prefix = "/".join(url.parts[2:]) + "/"
    found = s3.client().list_objects_v2(Bucket=s3.bucket, Prefix=prefix).get("Contents", [])
    return {each["Key"].removeprefix(prefix) for each in found if not each["Key"].endswith("/")}


def test_another_machine_goes_on_with_an_output(s3: S3Server, url: Path, machine: Machine) -> None:
    with claimed_output(job_folder(url, "evaluate"), "evaluate") as output:
        assert location_of(output / "a" / "b") == f"s3://{s3.bucket}/{url.parts[2]}/run/a/b"
        (output / "cases.csv").write_text("1")
        (output / "overlays").mkdir()
        (output / "overlays" / "best.png").write_bytes(bytes(100_000))
        (output / "study.db").write_text("of this disk")
    assert keys(s3, url) == {".ossnet.json", "cases.csv", "overlays/best.png"}
    machine("b")
    with claimed_output(job_folder(url, "evaluate"), "evaluate") as output:
        assert (output / "cases.csv").read_text() == "1"
        assert (output / "overlays" / "best.png").stat().st_size == 100_000
        (output / "cases.csv").write_text("two")
    machine("a")
    with claimed_output(job_folder(url, "evaluate"), "evaluate") as output:
        assert (output / "cases.csv").read_text() == "two"
        assert (output / "study.db").read_text() == "of this disk"
    assert not any(key.startswith(lock.LOCKS) for key in keys(s3, url))


def test_what_others_put_there_is_not_touched(s3: S3Server, url: Path, machine: Machine) -> None:
    s3.client().put_object(Bucket=s3.bucket, Key="/".join([*url.parts[2:], "scan.nii.gz"]), Body=b"")
    with pytest.raises(UserError, match=r"s3://.*/run: .*files that it did not make \(scan\.nii\.gz\)"):
        job_folder(url, "evaluate")
    with claimed_output(job_folder(url / "mine", "evaluate"), "evaluate") as output:
        (output / "cases.csv").write_text("1")
    with pytest.raises(UserError, match="found the output of ossnet evaluate"):
        job_folder(url / "mine", "predict")
    assert keys(s3, url) == {"scan.nii.gz", "mine/.ossnet.json", "mine/cases.csv"}


def test_a_job_that_made_nothing_leaves_nothing(s3: S3Server, url: Path, machine: Machine) -> None:
    with pytest.raises(UserError, match="no store"), claimed_output(job_folder(url, "tune"), "tune"):
        raise UserError("no store")
    assert keys(s3, url) == set()


@pytest.mark.parametrize(
    ("output", "line"),
    [
        ("ftp://host/run", "ftp://host/run: expected a folder, or a URL that begins with s3://"),
        ("s3://key:secret@bucket/run", r"without a password and options, found a password"),
        ("s3://bucket/run?region=x", r"found options behind a \?"),
        ("s3://no-such-bucket/run", r"s3://no-such-bucket/run: expected object storage that can be read"),
    ],
)
@pytest.mark.usefixtures("s3", "machine")
def test_a_url_that_cannot_be_used_is_one_line(output: str, line: str) -> None:
    with (
        pytest.raises(UserError, match=line) as found,
        claimed_output(job_folder(Path(output), "tune"), "tune"),
    ):
        pass
    assert "secret" not in str(found.value)
    assert "\n" not in str(found.value)


def test_a_job_without_such_an_output_refuses_it() -> None:
    line = "expected a folder for ossnet verify, found a URL"
    with pytest.raises(UserError, match=line), claimed_output(Path("s3://bucket/run"), "verify"):
        pass
    assert not Path("s3:").exists()


@pytest.mark.chaos("a second driver of an output in S3, and a dead one")
def test_a_second_driver_is_refused_and_a_dead_one_taken_over(
    s3: S3Server, url: Path, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere = replace(Writer.this_process("tune"), host="node-b", pid=7, token="b")
    folder = RemoteFolder.at(f"s3://{s3.bucket}/{url.parts[2]}")
    folder.write(f"{lock.LOCKS}/b.json", json.dumps(asdict(elsewhere)).encode())
    time.sleep(1.1)  # the server's clock has seconds
    line = r"an ossnet tune that is still running \(process 7 on node-b, since"
    with pytest.raises(UserError, match=line), lock.object_lock(folder, "tune"):
        pass
    assert [file.name for file in folder.files()] == [f"{lock.LOCKS}/b.json"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ossnet.output.writer_lock.DEAD_S", 0.5)
        with lock.object_lock(folder, "tune"):
            (mine,) = {file.name.rpartition("/")[2].split(".")[0] for file in folder.files()}
            assert mine != "b"
    assert "is taken over: ossnet tune (process 7 on node-b) has not been heard of for" in caplog.text
    gone = replace(Writer.this_process("tune"), process_start="1", token="gone")
    folder.write(f"{lock.LOCKS}/gone.json", json.dumps(asdict(gone)).encode())
    with lock.object_lock(folder, "tune"):
        pass
    assert f"(process {os.getpid()} on {gone.host}) is gone" in caplog.text
    assert folder.files() == []


def test_of_two_drivers_that_start_at_once_one_has_the_folder(
    s3: S3Server, url: Path, machine: Machine
) -> None:
    folder = RemoteFolder.at(f"s3://{s3.bucket}/{url.parts[2]}")
    first, second = (replace(Writer.this_process("tune"), host="x", token=token) for token in "ba")
    assert lock._take(folder, first) == first
    holders = {writer.token: lock._take(folder, writer) for writer in (second, first)}
    assert [token for token, holder in holders.items() if holder is not None and holder.token == token] in (
        ["a"],
        ["b"],
    )


def test_a_checkpoint_goes_to_whoever_needs_it(s3: S3Server, url: Path, machine: Machine) -> None:
    output = RemoteFolder.at(f"s3://{s3.bucket}/{url.parts[2]}").path
    trial = output / "trials" / "000.0-a"
    for folder, text in (("checkpoint_000001", "1"), ("checkpoint_interim", "2")):
        (trial / folder).mkdir(parents=True)
        (trial / folder / "version.json").write_text(text)
        (trial / folder / "model.safetensors").write_text(text)
    keep_changed(trial / "checkpoint_000001")
    keep_folder(trial / "checkpoint_interim")
    machine("b")
    there = RemoteFolder.at(f"s3://{s3.bucket}/{url.parts[2]}").path / "trials" / "000.0-a"
    assert there != trial
    for _ in range(2):
        fetch_folders(there, "checkpoint_*")
        fetch_folder(there / "checkpoint_interim")
        assert sorted(path.name for path in there.iterdir()) == ["checkpoint_000001", "checkpoint_interim"]
        assert (there / "checkpoint_000001" / "model.safetensors").read_text() == "1"
        assert (there / "checkpoint_interim" / "model.safetensors").read_text() == "2"
    inputs = fetch_input(Path(f"s3://{s3.bucket}/{url.parts[2]}/trials/000.0-a/checkpoint_000001"))
    assert sorted(path.name for path in inputs.iterdir()) == ["model.safetensors", "version.json"]


def test_a_checkpoint_is_never_of_two(s3: S3Server, url: Path, machine: Machine) -> None:
    """One that is replaced and cut off by an end of the job is no checkpoint, rather than a mixed one."""
    folder = RemoteFolder.at(f"s3://{s3.bucket}/{url.parts[2]}")
    checkpoint = folder.path / "checkpoint"
    checkpoint.mkdir()
    names = ("config.json", "model.safetensors", "version.json")
    for text in ("1", "2"):
        for name in names:
            (checkpoint / name).write_text(text)
        with pytest.MonkeyPatch.context() as patch:
            if text == "2":
                patch.setattr(RemoteFolder, "push", _until("model.safetensors", RemoteFolder.push))
                with pytest.raises(KeyboardInterrupt):
                    folder.push_changed()
                assert {file.name for file in folder.files()} == {f"checkpoint/{name}" for name in names[:2]}
        folder.push_changed()
        assert {folder.read(f"checkpoint/{name}") for name in names} == {text.encode()}


def _until(last: str, push: Callable[[RemoteFolder, Path], None]) -> Callable[[RemoteFolder, Path], None]:
    def pushed(folder: RemoteFolder, path: Path) -> None:
        if path.name == last:
            raise KeyboardInterrupt
        push(folder, path)

    return pushed


def test_a_single_file_is_an_input_as_well(s3: S3Server, url: Path, machine: Machine) -> None:
    s3.client().put_object(Bucket=s3.bucket, Key="/".join(url.parts[2:]) + "/scan.nii", Body=b"scan")
    path = fetch_input(url / "scan.nii")
    assert (path.name, path.read_bytes()) == ("scan.nii", b"scan")
    assert [each.name for each in fetch_input(url).iterdir()] == ["scan.nii"]
    machine("b")
    assert fetch_input(url / "scan.nii").read_bytes() == b"scan"
    with pytest.raises(UserError, match="expected a folder with files, found none"):
        fetch_input(url / "none.nii")


def test_a_node_that_is_not_the_jobs_uploads_what_it_wrote(s3: S3Server, url: Path, machine: Machine) -> None:
    path = RemoteFolder.at(f"s3://{s3.bucket}/{url.parts[2]}").path / "cases" / "x.arrow"
    location = location_of(path)
    machine("b")
    with written(Path("no", "such", "folder", "x.arrow"), location) as target:
        target.write_text("case")
    assert not target.exists()
    assert (
        s3.client().get_object(Bucket=s3.bucket, Key=f"{url.parts[2]}/cases/x.arrow")["Body"].read()
        == b"case"
    )
