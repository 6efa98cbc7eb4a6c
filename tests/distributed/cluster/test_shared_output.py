"""A folder that only one node has: each node reads what the job wrote, and the job what each node wrote."""

from pathlib import Path

import pytest
from node_cluster import cluster, may_hide_folders

from ossnet.distributed.cluster.shared_output import Probe


def probes(job: Path, node: Path) -> tuple[Probe, Probe]:
    """A question as the job and a node know it, which may mean different folders by one path."""
    return Probe(str(job), "t"), Probe(str(node), "t")


def test_a_shared_folder_answers_and_is_left_as_it_was(tmp_path: Path) -> None:
    job, node = probes(tmp_path, tmp_path)
    job.ask()
    assert not job.is_answered("b")
    assert node.answer("b") is None
    assert job.is_answered("b")
    job.remove(["b"])
    assert list(tmp_path.iterdir()) == []


def test_a_node_without_the_folder_says_so(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    job, node = probes(tmp_path, tmp_path / "none")
    job.ask()
    assert node.answer("b") == "no such folder"
    (tmp_path / "none").mkdir()
    assert node.answer("b") == "another folder of this name, without what the job wrote"
    (tmp_path / "none").rmdir()
    (tmp_path / "none").write_text("")
    assert node.answer("b") is not None


def test_what_a_node_writes_elsewhere_does_not_arrive(tmp_path: Path) -> None:
    """As where it has a copy of the folder from before."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    job, node = probes(tmp_path / "a", tmp_path / "b")
    for each in (job, node):
        each.ask()
    assert node.answer("b") is None
    assert not job.is_answered("b")


SPACE = """
def space(trial):
    return {"optimizer.learning_rate": trial.suggest_float("rate", 0.0, 0.01)}
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not may_hide_folders(), reason="needs the right to mount")
def test_a_node_that_lacks_the_output_is_named_before_the_first_trial(
    phantom_store: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(SPACE)
    (tmp_path / "runs").mkdir()
    with cluster(tmp_path) as nodes:
        nodes.add("near")
        nodes.add("far", hidden=tmp_path / "runs")
        done = nodes.job("tune", phantom_store, "runs/study", "--space", "mine.py", "--trials", "2")
        assert done.returncode == 2, done.stderr[-3000:]
        line = done.stderr.strip().splitlines()[-1]
        assert "runs/study on node " in line
        assert "expected the folder that the job writes to, found no such folder" in line
        done = nodes.job("train", phantom_store, "runs/train", "--epochs", "2")
        assert done.returncode == 2, done.stderr[-3000:]
        assert "runs/train on node " in done.stderr.strip().splitlines()[-1]
