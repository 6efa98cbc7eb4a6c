"""When and where checkpoints are kept: each replaces an earlier one of ours, and nothing else."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ossnet.errors import UserError
from ossnet.output.atomic_write import atomic_folder, writing
from ossnet.output.remote.copies import fetch_folder, fetch_folders, keep_changed, keep_folder

CHECKPOINT = "checkpoint"
"""The name of its folder in that of the run or the study."""
TRACKING = "tracking.json"
"""The file of a checkpoint that says where its run is tracked."""
INTERIM = "checkpoint_interim"
"""The name of the folder of those between two reports, beside a run's other checkpoints."""
_FILES = {
    "config.json",
    "task.json",
    "data.json",
    TRACKING,
    "version.json",
    "model.safetensors",
    "state.pt",
    "temperature.json",
    "components.json",
    ".metadata.json",  # Ray's
}
_LEAST_SHARE = 20.0  # of a save's time that passes until the next one: they take at most a twentieth


def checkpoint_folder(path: Path) -> Path:
    """The folder of a checkpoint, given it, or that of the run or the study which keeps it."""
    nested = path / CHECKPOINT
    return nested if not (path / "version.json").is_file() and nested.is_dir() else path


def checkpoints_in(folder: Path) -> list[Path]:
    """The folders of checkpoints of a run's folder; they are brought here first where they lie elsewhere."""
    fetch_folders(folder, "checkpoint_*")
    fetch_folder(folder / INTERIM)
    return list(folder.glob("checkpoint_*/"))


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
    keep_changed(folder)


def _is_strange(path: Path) -> bool:
    return path.name not in _FILES or path.is_symlink() or not path.is_file()


def _strange(folder: Path, found: str) -> UserError:
    return UserError(
        folder,
        expected="the run's own checkpoint, or none",
        found=found,
        remedy="move it away and give the same command with --resume",
    )


class Interim:
    """When a run saves a checkpoint between two reports, in a folder where each takes the place of the last.

    Args:
        folder: where they are written.
        minutes: between two checkpoints of any kind; None: only when asked.
        requested: whether one is asked for; called after each step, and true once for each time.
        before: called before each, for what must not lag behind it, as the metrics of its steps.
    """

    def __init__(
        self,
        folder: Path,
        minutes: float | None,
        requested: Callable[[], bool] = lambda: False,
        before: Callable[[], None] = lambda: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = folder
        self._every_s = float("inf") if minutes is None else 60 * minutes
        self._requested, self._before, self._now = requested, before, now
        self._next = now() + self._every_s

    def is_due(self) -> bool:
        """Whether a checkpoint is to be saved now."""
        return self._requested() or self._now() >= self._next

    def write(self, save: Callable[[Path], None]) -> None:
        """Have a checkpoint written; the next one is due later, and later still where that took long."""
        began = self._now()
        self._before()
        save(self.folder)
        keep_folder(self.folder)
        self.saved(self._now() - began)

    def saved(self, took_s: float) -> None:
        """Note that the run has saved a checkpoint, here or with a report."""
        self._next = self._now() + max(self._every_s, _LEAST_SHARE * took_s)
