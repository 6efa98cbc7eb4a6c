"""Nodes that read object storage for others: which of them reads what, and what happens where none can."""

import hashlib
import shutil
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from s3_server import S3Server, s3_server

from ossnet.data import Store
from ossnet.data.store.cache import DataConfig
from ossnet.distributed.data.node_files import FilesOfNode, ReadingNodes, has_gpu, reading_nodes
from ossnet.errors import CaseError


def node(name: str, cpus: float = 4, gpus: float = 0, *, alive: bool = True) -> dict:
    """A node as Ray lists it."""
    return {
        "NodeID": hashlib.sha256(name.encode()).hexdigest()[:56],
        "Alive": alive,
        "Resources": {"CPU": cpus, "memory": 1e9} | ({"GPU": gpus} if gpus else {}),
    }


def test_only_living_nodes_with_cpus_and_without_a_gpu_read() -> None:
    able = node("able")
    others = [node("head", cpus=0), node("gpu", gpus=1), node("lost", alive=False)]
    assert reading_nodes([*others, able], "cases/a.arrow") == [able["NodeID"]]
    assert reading_nodes(others, "cases/a.arrow") == []
    assert [has_gpu(others, each["NodeID"]) for each in others] == [False, True, False]
    assert not has_gpu(others, able["NodeID"])


@given(st.lists(st.text(min_size=1), min_size=1, max_size=6, unique=True), st.text(), st.randoms())
def test_every_node_finds_the_same_reader_and_only_the_files_of_a_lost_one_move(names, file, random) -> None:
    cluster = [node(name) for name in names]
    order = reading_nodes(cluster, file)
    assert sorted(order) == sorted(each["NodeID"] for each in cluster)
    random.shuffle(cluster)
    assert reading_nodes(cluster, file) == order
    gone = random.choice(cluster)
    gone["Alive"] = False
    assert reading_nodes(cluster, file) == [each for each in order if each != gone["NodeID"]]


def test_files_spread_over_the_nodes() -> None:
    cluster = [node(name) for name in "abcd"]
    first = Counter(reading_nodes(cluster, f"cases/{number}.arrow")[0] for number in range(400))
    assert len(first) == 4
    assert min(first.values()) >= 70


def through_nodes(s3: S3Server, store: Store, cache: Path) -> ReadingNodes:
    """The store on S3, at an address that Ray's processes need no environment for."""
    place = f"endpoint_override={s3.host}:{s3.port}&scheme=http&region=us-east-1"
    url = f"s3://key:secret@{s3.bucket}/store?{place}"
    return ReadingNodes.of(url, store.manifest, DataConfig(cache_folder=str(cache)), 20_000)


@pytest.mark.usefixtures("cluster")
def test_another_node_reads_each_object_once_however_often_it_is_asked(
    phantom_store: Path, tmp_path: Path
) -> None:
    store = Store.open(phantom_store)
    with s3_server(tmp_path) as s3:
        s3.upload(phantom_store, "store")
        source = through_nodes(s3, store, tmp_path / "cache")
        for entry in [*store.manifest.cases.values()][:2] * 2:
            size, parts = source.read(entry.file)
            content = b"".join(parts)
            assert content == (phantom_store / entry.file).read_bytes()
            assert size == len(content)
            assert s3.opened[f"store/{entry.file}"] == 1
        gone = [*store.manifest.cases.values()][2].file
        s3.delete(f"store/{gone}")
        with pytest.raises(CaseError, match=r"case .*, node .*: expected its file .*, found none"):
            source.read(gone)
        assert not source._failed


@pytest.mark.usefixtures("cluster")
def test_a_node_reads_by_itself_where_no_other_can(
    phantom_store: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store.open(phantom_store)
    (tmp_path / "cache").write_text("no folder")
    with s3_server(tmp_path) as s3:
        s3.upload(phantom_store, "store")
        source = through_nodes(s3, store, tmp_path / "cache")
        for entry in [*store.manifest.cases.values()][:2]:
            _, parts = source.read(entry.file)
            assert b"".join(parts) == (phantom_store / entry.file).read_bytes()
    assert len(source._failed) == 1
    assert caplog.text.count("no longer reads cases for others") == 1
    assert "set data.cache_folder" in caplog.text


@pytest.mark.usefixtures("cluster")
def test_a_file_that_vanishes_while_another_node_passes_it_on(phantom_store: Path, tmp_path: Path) -> None:
    import ray

    root = shutil.copytree(phantom_store, tmp_path / "store")
    file = next(iter(Store.open(root).manifest.cases.values())).file
    source = FilesOfNode(root, ray.get_runtime_context().get_node_id(), 20_000)
    size, parts = source.read(file)
    assert b"".join(parts) == (phantom_store / file).read_bytes()
    assert size == (phantom_store / file).stat().st_size
    _, parts = source.read(file)
    next(parts)
    (root / file).unlink()
    with pytest.raises(FileNotFoundError):
        list(parts)
