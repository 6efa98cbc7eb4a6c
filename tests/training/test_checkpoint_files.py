"""The folder of a checkpoint: replaced where it is one, kept where it is more or the disk is full."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

from ossnet.errors import UserError
from ossnet.training.checkpoint import load_state, save_checkpoint
from ossnet.training.checkpoint_files import check_replaceable, checkpoint_folder, replace_checkpoint


def save(folder: Path, step: int) -> None:
    save_checkpoint(folder, network=nn.Linear(2, 1), documents={"config.json": "{}"}, state={"step": step})


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def add_notes(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")


def add_folder(folder: Path) -> None:
    (folder / "state.pt").unlink()
    (folder / "state.pt").mkdir()
    (folder / "state.pt" / "mine").write_text("mine")


def link_weights(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder.parent / "weights")
    (folder / "model.safetensors").symlink_to(folder.parent / "weights")


def link_whole(folder: Path) -> None:
    folder.rename(folder.parent / "elsewhere")
    folder.symlink_to(folder.parent / "elsewhere")


def make_file(folder: Path) -> None:
    folder.rename(folder.parent / "elsewhere")
    folder.write_text("mine")


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (add_notes, "notes.txt in it"),
        (add_folder, "state.pt in it"),
        (link_weights, "model.safetensors in it"),
        (link_whole, "a link"),
        (make_file, "a file"),
    ],
)
def test_what_is_more_than_a_checkpoint_is_kept(
    tmp_path: Path, spoil: Callable[[Path], None], found: str
) -> None:
    folder = tmp_path / "checkpoint"
    save(folder, 1)
    check_replaceable(folder)
    spoil(folder)
    before = contents(tmp_path)
    with pytest.raises(UserError, match=f"expected the run's own checkpoint, or none, found {found}"):
        check_replaceable(folder)
    with pytest.raises(UserError, match=f"found {found}"), replace_checkpoint(folder) as aside:
        (aside / "config.json").write_text("new")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("there", [False, True])
def test_a_checkpoint_takes_the_place_of_an_earlier_one(tmp_path: Path, there: bool) -> None:
    folder = tmp_path / "checkpoint"
    if there:
        save(folder, 1)
    with replace_checkpoint(folder) as aside:
        (aside / "config.json").write_text("new")
    assert contents(tmp_path) == {"checkpoint/config.json": b"new"}


FULL = """
import resource, sys
from pathlib import Path
import torch
from torch import nn
from ossnet.errors import UserError
from ossnet.training.checkpoint import save_checkpoint

limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))  # as a disk on which each file finds this much
state = {"step": 2, "moments": torch.zeros(5000)}
try:
    network, folder = nn.Linear(1000, 10), Path(sys.argv[1])
    save_checkpoint(folder, network=network, documents={"config.json": "{}"}, state=state)
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize("limit", [0, 10_000, 30_000])  # weights take 40 kB, the state 20 kB
@pytest.mark.parametrize("there", [False, True])
def test_a_full_disk_costs_no_earlier_checkpoint(tmp_path: Path, limit: int, there: bool) -> None:
    folder = tmp_path / "checkpoint"
    if there:
        save(folder, 1)
    before = contents(tmp_path)
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", FULL, str(folder), str(limit)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{folder}: expected a folder that can be written, found File too large")
    assert len(done.stdout.splitlines()) == 1
    assert contents(tmp_path) == before
    if there:
        assert load_state(folder) == {"step": 1}


def test_a_full_disk_while_the_state_is_written(tmp_path: Path) -> None:
    """The weights fit and the state does not, which torch writes with errors of its own."""
    script = FULL.replace("nn.Linear(1000, 10)", "nn.Linear(2, 1)").replace("5000", "50000")
    command = [sys.executable, "-c", script, str(tmp_path / "checkpoint"), "20000"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "found File too large; free some space" in done.stdout
    assert contents(tmp_path) == {}


def test_a_run_stands_for_its_checkpoint(tmp_path: Path) -> None:
    save(tmp_path / "run" / "checkpoint", 1)
    assert checkpoint_folder(tmp_path / "run") == tmp_path / "run" / "checkpoint"
    assert checkpoint_folder(tmp_path / "run" / "checkpoint") == tmp_path / "run" / "checkpoint"
    assert checkpoint_folder(tmp_path / "nothing") == tmp_path / "nothing"
