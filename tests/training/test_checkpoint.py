"""What is read as a checkpoint and what is rejected, in one line that says what to do."""

import json
from pathlib import Path

import pytest
from torch import nn

from ossnet import schemas
from ossnet.errors import UserError
from ossnet.training.checkpoint import check_checkpoint, save_checkpoint

NEXT = schemas.CHECKPOINT + 1


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    save_checkpoint(folder, network=nn.Linear(2, 1), documents={"config.json": "{}"}, state={"step": 1})
    return folder


def test_a_checkpoint_of_this_format_is_accepted(checkpoint: Path) -> None:
    check_checkpoint(checkpoint)


@pytest.mark.parametrize(
    ("version", "found", "remedy"),
    [
        (1, "one of the old format 1", "train the network again to write a new one"),
        (NEXT, f"one of the format {NEXT}", "use the ossnet that wrote it"),
        (None, "one of the format None", "use the ossnet that wrote it"),
    ],
)
def test_a_checkpoint_of_another_format_is_rejected(
    version: int | None, found: str, remedy: str, checkpoint: Path
) -> None:
    (checkpoint / "version.json").write_text(json.dumps({"format": version}))
    with pytest.raises(UserError) as caught:
        check_checkpoint(checkpoint)
    line = f"{checkpoint}: expected a checkpoint of format {schemas.CHECKPOINT}, found {found}; {remedy}"
    assert str(caught.value) == line


@pytest.mark.parametrize(
    ("name", "there"),
    [
        (None, "an empty folder"),
        ("config.json", r"version\.json is missing"),
        ("manifest.json", "a store of cases"),
        ("study.db", "a study without a result yet"),
    ],
)
def test_another_folder_is_no_checkpoint(name: str | None, there: str, tmp_path: Path) -> None:
    if name is not None:
        (tmp_path / name).write_text("{}")
    with pytest.raises(UserError, match=rf"no checkpoint \({there}\); give the folder"):
        check_checkpoint(tmp_path)


def test_what_is_no_folder_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "model.pt").touch()
    for name, there in (("gone", "no such folder"), ("model.pt", "a file")):
        with pytest.raises(UserError, match=rf"no checkpoint \({there}\)"):
            check_checkpoint(tmp_path / name)
