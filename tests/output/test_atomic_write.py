"""Files and folders that are whole or not there; what cannot be written is one line."""

import os
from errno import EACCES, ENOSPC, EROFS
from pathlib import Path

import pytest

from ossnet.errors import UserError
from ossnet.output.atomic_write import atomic_folder, atomic_path, atomic_write, disk_error, disk_fault


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    places = [tmp_path / "file" / "below", tmp_path / ("x" * 300), Path("/proc/nowhere/out")]
    for place in places:
        with pytest.raises(UserError, match=r"expected a file that can be written, found .*; name another"):
            atomic_write(place, "text")
    assert (tmp_path / "file").read_text() == "kept"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.chaos("the disk full while a file is written")
def test_a_full_disk_keeps_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("earlier")
    with pytest.raises(UserError, match="out: expected a file that can be written, found No space left on"):
        _write_half(tmp_path / "out")
    assert (tmp_path / "out").read_text() == "earlier"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def _write_half(path: Path) -> None:
    with atomic_path(path) as aside:
        aside.write_text("half")
        raise OSError(ENOSPC, os.strerror(ENOSPC))


@pytest.mark.parametrize(
    ("cause", "fault", "remedy"),
    [
        (OSError(ENOSPC, "x", "/a/file"), "No space left on device", "free some space"),
        (OSError(EROFS, "x", "/a/file"), "Read-only file system", "make it writable"),
        (RuntimeError("(sqlite3) database or disk is full"), "No space left on device", "free some space"),
        (RuntimeError("attempt to write a readonly database"), "Read-only file system", "make it writable"),
    ],
)
def test_a_disk_that_takes_no_more_is_known_from_what_came_of_it(
    cause: Exception, fault: str, remedy: str
) -> None:
    error = ValueError("a trial failed")
    error.__cause__ = cause
    assert disk_fault(error) == disk_fault(cause) == fault
    assert f"found {fault}; {remedy}, or name another --output" in str(disk_error(cause))
    assert disk_fault(OSError(EACCES, "x")) is None


def test_a_folder_comes_back_where_the_new_one_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "earlier").touch()
    rename = Path.rename

    def fails(path: Path, target: Path) -> Path:
        if target.name == "out" and "before" not in path.name:
            raise OSError(EACCES, os.strerror(EACCES))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(UserError, match="found Permission denied"), atomic_folder(tmp_path / "out") as aside:
        (aside / "new").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "earlier"]


def test_other_errors_are_left_alone(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), atomic_path(tmp_path / "out"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
