"""What a full disk leaves of a training: the checkpoints that are whole, and no others."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from ossnet.distributed.training.trainer import ERROR, _keep_best
from ossnet.errors import UserError


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
