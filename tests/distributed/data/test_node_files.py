"""Nodes that read object storage for others: which of them reads what."""

import hashlib
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from ossnet.distributed.data.node_files import has_gpu, reading_nodes


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
