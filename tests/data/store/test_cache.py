"""A node's cache of case files: complete or not there, within its bound, fetched once by all processes."""

import fcntl
import multiprocessing
import os
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossnet.data import Store
from ossnet.data.store.cache import CachedCases
from ossnet.errors import UserError


@dataclass(frozen=True)
class Folder:
    """Another node's store; every file that is read from it is listed."""

    root: Path
    log: Path

    def read(self, file: str) -> tuple[int, Iterator[memoryview]]:
        content = (self.root / file).read_bytes()
        with self.log.open("a") as log:
            log.write(f"{file}\n")
        return len(content), (memoryview(content)[at : at + 10_000] for at in range(0, len(content), 10_000))

    @property
    def reads(self) -> Counter[str]:
        return Counter(self.log.read_text().split()) if self.log.exists() else Counter()


def cached(store: Path, folder: Path, *, limit: int | None = None) -> tuple[Store, Folder]:
    """The store as a node sees it that has not its files, and what it fetches from."""
    origin = Store.open(store)
    source = Folder(store, folder / "reads.txt")
    reader = CachedCases(source, folder / "cache", origin.manifest.fingerprint, str(store), limit)
    return Store(store, origin.manifest, reader=reader), source


def largest(store: Path) -> int:
    return max(path.stat().st_size for path in (store / "cases").iterdir())


def sizes(folder: Path) -> list[int]:
    """Sizes of the files in the cache, while no process fills or finishes one."""
    found = []
    with (folder / "cache" / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for path in (folder / "cache").glob("*/*.arrow*"):
            with suppress(FileNotFoundError):  # an empty one, of who waited for a file that is there now
                found.append(path.stat().st_size)
    return found


def test_a_case_is_fetched_once_and_equals_the_original(phantom_store, tmp_path):
    store, source = cached(phantom_store, tmp_path)
    original = Store.open(phantom_store)
    for _ in range(3):
        for case in store.split("training"):
            found, expected = store.case(case), original.case(case)
            assert found.header == expected.header
            np.testing.assert_array_equal(found.voxels, expected.voxels)
            np.testing.assert_array_equal(found.label, expected.label)
            assert not found.voxels.flags.writeable
    assert set(source.reads.values()) == {1}
    assert len(source.reads) == len(store.split("training"))


@given(order=st.lists(st.integers(0, 7), max_size=30), room=st.integers(1, 4))
def test_the_cache_keeps_to_its_bound_and_forgets_what_was_used_least_recently(phantom_store, order, room):
    with tempfile.TemporaryDirectory() as folder:
        limit = room * largest(phantom_store)
        store, source = cached(phantom_store, Path(folder), limit=limit)
        cases = store.split("training")
        recent: list[int] = []
        fetched = Counter[str]()
        for number in order:
            case = cases[number]
            if number not in recent:
                fetched[store.manifest.cases[case].file] += 1
            recent = [*(each for each in recent if each != number), number][-room:]
            assert store.case(case).id == case
            assert sum(sizes(Path(folder))) <= limit
        assert source.reads == fetched  # phantom cases have equal sizes, within a few bytes


def test_a_mapped_case_outlives_its_file(phantom_store, tmp_path):
    store, _ = cached(phantom_store, tmp_path, limit=largest(phantom_store))
    first, second = store.split("training")[:2]
    held = store.case(first)
    expected = np.array(held.voxels)
    store.case(second)
    assert len(sizes(tmp_path)) == 1
    np.testing.assert_array_equal(held.voxels, expected)


def _read_all(phantom_store: Path, folder: Path, limit: int | None, seed: int) -> None:
    store, _ = cached(phantom_store, folder, limit=limit)
    original = Store.open(phantom_store)
    for case in np.random.default_rng(seed).permutation(store.split("training")).tolist() * 3:
        np.testing.assert_array_equal(store.case(case).voxels, original.case(case).voxels)
        if limit is not None:
            assert sum(sizes(folder)) <= limit


@pytest.mark.parametrize("room", [None, 3])
def test_processes_share_it(phantom_store, tmp_path, room):
    limit = None if room is None else room * largest(phantom_store)
    context = multiprocessing.get_context("forkserver")
    processes = [
        context.Process(target=_read_all, args=(phantom_store, tmp_path, limit, seed)) for seed in range(4)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * len(processes)
    _, source = cached(phantom_store, tmp_path)
    assert len(source.reads) == 8
    if limit is None:
        assert set(source.reads.values()) == {1}
    assert not list((tmp_path / "cache").glob("*/*.part"))


def test_what_a_killed_process_left_makes_room(phantom_store, tmp_path):
    limit = largest(phantom_store)
    store, _ = cached(phantom_store, tmp_path, limit=limit)
    left = tmp_path / "cache" / store.manifest.fingerprint[:16] / "x.0123456789abcdef.arrow.part"
    left.parent.mkdir(parents=True)
    left.write_bytes(bytes(limit))
    store.case(store.split("training")[0])
    assert not left.exists()


def test_a_damaged_file_of_the_cache_is_fetched_again(phantom_store, tmp_path):
    store, source = cached(phantom_store, tmp_path)
    case = store.split("training")[0]
    store.case(case)
    (path,) = (tmp_path / "cache").glob("*/*.arrow")
    path.write_bytes(b"nothing")
    assert store.case(case).id == case
    assert source.reads.total() == 2


def one_line(error: pytest.ExceptionInfo[UserError], case: str) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert f"case {case}, node {os.uname().nodename}" in text
    return text


def test_a_file_that_is_gone(phantom_store, tmp_path):
    store, source = cached(phantom_store, tmp_path)
    reader = replace(store._reader, source=replace(source, root=tmp_path))
    case = store.split("training")[0]
    with pytest.raises(UserError) as error:
        Store(phantom_store, store.manifest, reader=reader).case(case)
    assert "found none" in one_line(error, case)
    assert not sizes(tmp_path)


def test_a_wrong_checksum(phantom_store, tmp_path):
    store, source = cached(phantom_store, tmp_path)
    case = store.split("training")[0]
    file = tmp_path / store.manifest.cases[case].file
    file.parent.mkdir()
    content = bytearray((phantom_store / "cases" / file.name).read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    reader = replace(store._reader, source=replace(source, root=tmp_path))
    with pytest.raises(UserError) as error:
        Store(phantom_store, store.manifest, reader=reader).case(case)
    assert "expected the checksum" in one_line(error, case)
    assert not sizes(tmp_path)


def test_a_cache_smaller_than_a_case(phantom_store, tmp_path):
    store, _ = cached(phantom_store, tmp_path, limit=1000)
    case = store.split("training")[0]
    with pytest.raises(UserError) as error:
        store.case(case)
    assert "raise data.cache_gib" in one_line(error, case)


def test_a_folder_that_cannot_be_made(phantom_store, tmp_path):
    store, _ = cached(phantom_store, tmp_path)
    (tmp_path / "cache").write_text("a file")
    case = store.split("training")[0]
    with pytest.raises(UserError) as error:
        store.case(case)
    assert "set data.cache_folder" in one_line(error, case)


def test_a_full_disk(phantom_store, tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir()
    size = f"size={largest(phantom_store) // 2}"
    mount = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount")
    try:
        store, _ = cached(phantom_store, tmp_path, limit=1 << 30)
        case = store.split("training")[0]
        with pytest.raises(UserError) as error:
            store.case(case)
        assert "No space left" in one_line(error, case)
        assert not sizes(tmp_path)
    finally:
        subprocess.run(["umount", str(folder)], check=True)
