"""The files of a checkpoint that MLflow keeps as artifacts of a run."""

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ossnet.training.checkpoint_files import CHECKPOINT

if TYPE_CHECKING:
    from mlflow import MlflowClient

_LEFT_OUT = {"state.pt"}  # only needed to resume the training
_LAST = "version.json"  # of the names: without it the files are not all there


def files_to_store(checkpoint: Path) -> list[Path]:
    """The files, in the order in which they are stored."""
    return [file for file in sorted(checkpoint.iterdir()) if file.name not in _LEFT_OUT]


def store_file(client: "MlflowClient", run_id: str, file: Path) -> None:
    """Store one of them."""
    client.log_artifact(run_id, str(file), CHECKPOINT)


def is_stored(client: "MlflowClient", run_id: str) -> bool:
    """Whether all of them are stored."""
    stored = {file.path for file in client.list_artifacts(run_id, CHECKPOINT)}
    return f"{CHECKPOINT}/{_LAST}" in stored


def fetch(client: "MlflowClient", run_id: str, folder: Path) -> bool:
    """Copy what is stored into an existing folder; False where nothing is."""
    files = client.list_artifacts(run_id, CHECKPOINT)
    with tempfile.TemporaryDirectory(dir=folder.parent) as aside:
        for file in files:
            found = client.download_artifacts(run_id, file.path, aside)
            shutil.move(found, folder / Path(file.path).name)
    return bool(files)
