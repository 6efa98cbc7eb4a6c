"""Cases that cannot be read: what takes their place, and when there are too many of them."""

import shutil
import socket
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ossnet.data import Store
from ossnet.data.store.case_file import StoredCase
from ossnet.data.store.lost_cases import ReadableCases
from ossnet.errors import CaseError, UserError


class Failing:
    """Reads the cases of a store but some, which are damaged."""

    def __init__(self, store: Store, lost: frozenset[str]) -> None:
        self.store, self.lost = store, lost

    def read(self, case: str, file: str, digest: str | None) -> StoredCase:
        if case in self.lost:
            raise CaseError(f"case {case}", expected="a case of the store", found="none")
        return self.store.case(case)


def readable(path: Path, lost: frozenset[str], *, seed: int = 0, max_lost: float = 1.0) -> ReadableCases:
    origin = Store.open(path)
    store = Store(path, origin.manifest, reader=Failing(origin, lost))
    return ReadableCases(
        store, store.split("training"), split="training", strict=False, max_lost=max_lost, seed=seed
    )


@settings(max_examples=25)
@given(lost=st.sets(st.integers(0, 7), max_size=7), order=st.permutations(range(8)), seed=st.integers(0, 9))
def test_the_case_that_takes_anothers_place_depends_on_nothing_else(phantom_store, lost, order, seed):
    ids = Store.open(phantom_store).split("training")
    gone = frozenset(ids[number] for number in lost)
    first, second = (readable(phantom_store, gone, seed=seed) for _ in range(2))
    found = {case: first.case(case).id for case in ids}
    assert {ids[number]: second.case(ids[number]).id for number in order} == found
    for case, opened in found.items():
        assert opened not in gone
        assert (opened == case) == (case not in gone)
    assert set(first.lost) == set(second.lost) == gone


def test_strict_ends_at_the_first(phantom_store):
    store = Store.open(phantom_store)
    ids = store.split("training")
    failing = Store(phantom_store, store.manifest, reader=Failing(store, frozenset(ids[:1])))
    cases = ReadableCases(failing, ids, split="training", strict=True, max_lost=1.0, seed=0)
    with pytest.raises(CaseError, match=f"case {ids[0]}: expected a case of the store, found none"):
        cases.case(ids[0])
    with pytest.raises(CaseError):
        list(cases.each(ids))
    assert not cases.lost


@pytest.mark.parametrize(("max_lost", "most"), [(0.25, 2), (0.24, 1), (0.0, 0)])
def test_more_than_the_share_that_may_be_lost_is_an_error(phantom_store, max_lost, most):
    ids = Store.open(phantom_store).split("training")
    assert len(ids) == 8
    cases = readable(phantom_store, frozenset(ids), max_lost=max_lost)
    for case in ids[:most]:
        assert cases._try(case) is None
    with pytest.raises(UserError) as error:
        cases.case(ids[most])
    assert f"at most {max_lost:.0%} of the 8 training cases left out, found {most + 1} that" in str(
        error.value
    )
    assert "such as case" in str(error.value)


def test_none_left_is_an_error_whatever_may_be_lost(phantom_store):
    ids = Store.open(phantom_store).split("training")
    cases = readable(phantom_store, frozenset(ids), max_lost=1.0)
    with pytest.raises(UserError, match="found 8 that cannot be read"):
        cases.case(ids[0])
    with pytest.raises(UserError, match="found 8 that cannot be read"):
        list(readable(phantom_store, frozenset(ids), max_lost=1.0).each(ids))


def test_cases_that_are_visited_once_are_left_out(phantom_store):
    ids = Store.open(phantom_store).split("training")
    cases = readable(phantom_store, frozenset(ids[2:4]), max_lost=0.25)
    assert [case.id for case in cases.each(ids)] == [*ids[:2], *ids[4:]]
    assert list(cases.lost) == list(ids[2:4])


def test_what_is_lost_at_several_places_is_counted_together(phantom_store):
    ids = Store.open(phantom_store).split("training")
    cases = readable(phantom_store, frozenset(), max_lost=0.25)
    cases.check(dict.fromkeys(ids[:2], "why"))
    with pytest.raises(UserError, match="found 3 that cannot be read, such as why"):
        cases.check(dict.fromkeys(ids[:3], "why"))


def test_what_was_lost_once_is_not_tried_again(phantom_store, tmp_path):
    root = shutil.copytree(phantom_store, tmp_path / "store")
    store = Store.open(root)
    ids = store.split("training")
    path = root / store.manifest.cases[ids[0]].file
    content = path.read_bytes()
    path.unlink()
    cases = ReadableCases(store, ids, split="training", strict=False, max_lost=0.5, seed=0)
    instead = cases.case(ids[0]).id
    assert instead != ids[0]
    path.write_bytes(content)
    assert cases.case(ids[0]).id == instead  # a run does not change its mind


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def other_schema(path: Path) -> None:
    batch = pa.record_batch({"picture": pa.array([b"0"], pa.large_binary())})
    with pa.memory_map(str(path)) as old:
        batch = batch.replace_schema_metadata(pa.ipc.open_file(old).schema.metadata)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def other_case(path: Path) -> None:
    shutil.copyfile(max(each for each in path.parent.iterdir() if each != path), path)


@pytest.mark.parametrize("spoil", [Path.unlink, cut, other_schema, other_case])
def test_what_cannot_be_read_is_one_line_with_the_case_and_the_node(phantom_store, tmp_path, spoil):
    root = shutil.copytree(phantom_store, tmp_path / "store")
    store = Store.open(root)
    case = store.split("training")[0]
    spoil(root / store.manifest.cases[case].file)
    with pytest.raises(CaseError) as error:
        store.case(case)
    line = str(error.value)
    assert "\n" not in line
    assert f"case {case}, node {socket.gethostname()}: expected " in line
