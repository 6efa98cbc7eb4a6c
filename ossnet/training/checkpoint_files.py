"""The checkpoint that a run or a study keeps: it replaces an earlier one of ours, and nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ossnet.errors import UserError
from ossnet.output.atomic_write import atomic_folder, writing

CHECKPOINT = "checkpoint"
"""The name of its folder in that of the run or the study."""
_FILES = {
    "config.json",
    "task.json",
    "version.json",
    "model.safetensors",
    "state.pt",
    "temperature.json",
    ".metadata.json",  # Ray's
}


def checkpoint_folder(path: Path) -> Path:
    """The folder of a checkpoint, given it, or that of the run or the study which keeps it."""
    nested = path / CHECKPOINT
    return nested if not (path / "version.json").is_file() and nested.is_dir() else path


def check_replaceable(folder: Path) -> None:
    """Reject a folder that holds anything but a checkpoint.

    Raises:
        UserError: names what is in it, which is kept.
    """
    with writing(folder, "folder"):
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise _strange(folder, "a link" if folder.is_symlink() else "a file")
        strange = (
            sorted(path.name for path in folder.iterdir() if _is_strange(path)) if folder.exists() else []
        )
    if strange:
        raise _strange(folder, f"{strange[0]} in it")


@contextmanager
def replace_checkpoint(folder: Path) -> Iterator[Path]:
    """A new folder to fill in the block, which then takes the place of an earlier checkpoint.

    Raises:
        UserError: as `check_replaceable`, or it cannot be written.
    """
    with atomic_folder(folder) as aside:
        yield aside
        check_replaceable(folder)


def _is_strange(path: Path) -> bool:
    return path.name not in _FILES or path.is_symlink() or not path.is_file()


def _strange(folder: Path, found: str) -> UserError:
    return UserError(
        folder,
        expected="the run's own checkpoint, or none",
        found=found,
        remedy="move it away and give the same command with --resume",
    )
