"""Files that a node maps where the store lies: each is checked before it is used, and once is enough."""

import os
import shutil
import socket
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from errno import ENOENT
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ossnet.data import Store
from ossnet.data.store.cache import DataConfig
from ossnet.data.store.case_file import compute_digest
from ossnet.data.store.store import MappedCases
from ossnet.errors import CaseError

Opening = Callable[[], Store]


@pytest.fixture
def root(phantom_store: Path, tmp_path: Path) -> Path:
    """A store to be damaged."""
    return shutil.copytree(phantom_store, tmp_path / "store")


@pytest.fixture
def opening(root: Path, tmp_path: Path) -> Opening:
    """Open the store as a new process of one node does."""
    return lambda: opened(root, tmp_path / "cache")


def opened(root: Path, cache: Path) -> Store:
    manifest = Store.open(root).manifest
    reader = MappedCases.of(root, manifest, DataConfig(cache_folder=str(cache)))
    return Store(root, manifest, reader=reader)


def file_of(root: Path, case: str) -> Path:
    return root / Store.open(root).manifest.cases[case].file


def change(path: Path, at: int, by: int = 1) -> None:
    """Change a byte of a file in place."""
    with path.open("r+b") as file:
        file.seek(at)
        (before,) = file.read(1)
        file.seek(at)
        file.write(bytes([before ^ by]))


def voxels_at(root: Path, case: str) -> int:
    """Where the image begins in the file of a case."""
    stored = Store.open(root).case(case)
    return file_of(root, case).read_bytes().index(stored.voxels.tobytes())


@settings(max_examples=25)
@given(at=st.floats(0, 1, exclude_max=True), by=st.integers(1, 255))
def test_any_changed_byte_of_the_voxels_is_reported(phantom_store, tmp_path_factory, at, by):
    folder = tmp_path_factory.mktemp("damaged")
    root = shutil.copytree(phantom_store, folder / "store")
    case = Store.open(root).split("training")[0]
    stored, start = Store.open(root).case(case), voxels_at(root, case)
    path, expected = file_of(root, case), Store.open(root).manifest.cases[case].digest
    change(path, start + int(at * (stored.voxels.nbytes + stored.label.nbytes)), by)
    with pytest.raises(CaseError) as reported:
        opened(root, folder / "cache").case(case)
    assert str(reported.value) == (
        f"{path}, case {case}, node {socket.gethostname()}: expected the checksum {str(expected)[:12]}, "
        f"found {compute_digest(path)[:12]}; prepare the store again, or copy it again"
    )


def test_the_file_of_another_case_is_reported(root: Path, opening: Opening) -> None:
    first, second = opening().split("training")[:2]
    shutil.copyfile(file_of(root, second), file_of(root, first))
    with pytest.raises(CaseError, match=f"case {first}, node .*: expected the checksum"):
        opening().case(first)


def test_a_node_checks_a_file_once_as_long_as_it_stays_as_it_is(root: Path, opening: Opening) -> None:
    """A change that leaves size, time and inode is not seen: that the file was not read again shows by it."""
    case = opening().split("training")[0]
    opening().case(case)
    path, at = file_of(root, case), voxels_at(root, case)
    before = path.stat()
    change(path, at)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    opening().case(case)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    for _ in range(2):
        with pytest.raises(CaseError, match="expected the checksum"):
            opening().case(case)
    change(path, at)
    assert opening().case(case).id == case


def test_threads_and_processes_share_one_list(root: Path, opening: Opening, tmp_path: Path) -> None:
    store, cases = opening(), opening().split("all")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(store.case, cases))
    (listed,) = (tmp_path / "cache").glob("*/checked.txt")
    lines = listed.read_text().splitlines()
    assert len(lines) == len(set(lines)) == len(cases)
    for case in cases:
        opening().case(case)
    assert listed.read_text().splitlines() == lines


@pytest.mark.parametrize("content", [b"", b"\xff\xfe nothing that anybody wrote", None])
def test_without_a_list_each_process_checks_for_itself(
    root: Path, opening: Opening, tmp_path: Path, content: bytes | None
) -> None:
    case = opening().split("training")[0]
    folder = tmp_path / "cache" / opening().manifest.fingerprint[:16]
    if content is None:
        folder.parent.mkdir()
        folder.write_text("a file where the folder should be")
    else:
        folder.mkdir(parents=True)
        (folder / "checked.txt").write_bytes(content)
    expected = Store.open(root).case(case).voxels
    np.testing.assert_array_equal(opening().case(case).voxels, expected)
    change(file_of(root, case), voxels_at(root, case))
    with pytest.raises(CaseError, match="expected the checksum"):
        opening().case(case)


def test_a_store_is_read_where_no_temporary_folder_can_be_written(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> str:
        raise FileNotFoundError(ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", missing)
    case = Store.open(root).split("training")[0]
    assert Store.open(root).case(case).id == case
