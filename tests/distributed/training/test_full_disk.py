"""What a full disk leaves of a training or a study: the checkpoints that are whole, and no others."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from torch import nn

from ossnet.distributed.training.trainer import ERROR, _keep_best
from ossnet.distributed.tuning.storage import remove_unfinished
from ossnet.errors import UserError
from ossnet.training.checkpoint import save_checkpoint


def test_checkpoints_that_were_not_finished_go(tmp_path: Path) -> None:
    names = ["checkpoint_1", "checkpoint_2", "checkpoint_3", "checkpoint_4"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "checkpoint_manager_snapshot.json").write_text("{}")
    best, last = (SimpleNamespace(path=f"{tmp_path}/{name}") for name in (names[0], names[2]))
    result = SimpleNamespace(
        return_value={ERROR: "the disk is full"},
        best_checkpoints=[(best, {})],
        checkpoint=last,
        path=tmp_path,
    )
    with pytest.raises(UserError, match="the disk is full"):
        _keep_best(result, tmp_path / "checkpoint")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"checkpoint_1", "checkpoint_3", "checkpoint_manager_snapshot.json"}


@pytest.mark.parametrize(
    "cut", ["config.json", "task.json", "version.json", "model.safetensors", "state.pt", "all", "none yet"]
)
@pytest.mark.parametrize("folder", ["trials", "workers"])
def test_checkpoints_of_trials_that_were_not_finished_go(tmp_path: Path, folder: str, cut: str) -> None:
    documents = {"config.json": json.dumps({"a": 1}), "task.json": "{}"}
    whole = tmp_path / folder / "000" / "checkpoint_000000"
    save_checkpoint(whole, network=nn.Linear(2, 2), documents=documents, state={"dice": 0.5})
    begun = Path(shutil.copytree(whole, whole.with_name("checkpoint_000001")))
    for file in begun.iterdir():
        if cut == "none yet":
            file.unlink()
        elif cut in {file.name, "all"}:
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2 if cut == "state.pt" else 0])
    (whole.parent / "error.txt").write_text("kept")
    remove_unfinished(tmp_path)
    assert {path.name for path in whole.parent.iterdir()} == {"checkpoint_000000", "error.txt"}
    assert len(list(whole.iterdir())) == 5
