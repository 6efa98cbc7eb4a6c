"""The checkpoint of an ended training; in the place of a damaged one MLflow's copy, else the one before."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ossnet.distributed.tuning.storage import best_checkpoint, checkpoint_folders, latest_checkpoint
from ossnet.distributed.tuning.trial import TrialEnd
from ossnet.output.atomic_write import atomic_folder
from ossnet.training.checkpoint import RUN, fault_of, load_state, save_state
from ossnet.training.checkpoint_files import INTERIM

logger = logging.getLogger(__name__)

Fetch = Callable[[str, Path], bool]
"""Copies the files of the checkpoint that MLflow has of a run to a folder; False where it has none."""
RESTORED = "checkpoint_restored"
"""The folder of MLflow's copy, beside the damaged checkpoint."""
_STATE = "state.pt"


def trained_checkpoint(output: Path, number: int, seed: int, run: str, end: TrialEnd | None) -> Path | None:
    """The last complete checkpoint of a training that has ended; the best of one that was cut short."""
    find = best_checkpoint if end is TrialEnd.TIME_LIMIT else latest_checkpoint
    return find(output, number, seed, run)


def restore_checkpoint(
    output: Path, number: int, seed: int, run: str, end: TrialEnd | None, *, dice: float, fetch: Fetch
) -> Path | None:
    """The checkpoint of a training that has ended, also where its last one is damaged; a line says so then.

    Args:
        dice: its validation Dice, where the damaged checkpoint no longer says it.
    """
    folders = [each for each in checkpoint_folders(output, number, seed, run) if each.name != INTERIM]
    folders.sort(key=lambda folder: folder.stat().st_mtime)
    if not folders:
        logger.warning(f"warning: trial {number:03d} left no checkpoint")
        return None
    damaged, fault = folders[-1], fault_of(folders[-1])
    if fault is None:
        return trained_checkpoint(output, number, seed, run, end)
    if _restore(damaged, run, dice, fetch):
        logger.warning(f"warning: {damaged} is damaged ({fault}): MLflow's copy takes its place")
        return trained_checkpoint(output, number, seed, run, end)
    before = trained_checkpoint(output, number, seed, run, end)
    instead = f"the one before, {before.name}, takes its place" if before else "and there is no other"
    logger.warning(f"warning: {damaged} is damaged ({fault}), MLflow has no copy: {instead}")
    return before


def _restore(damaged: Path, run: str, dice: float, fetch: Fetch) -> bool:
    """Put MLflow's copy beside it as a checkpoint, with what only training needs from the damaged one."""
    target = damaged.with_name(RESTORED)
    with atomic_folder(target) as aside:
        found = fetch(run, aside)
        if found:
            save_state(aside / _STATE, _state_of(damaged) or {"dice": dice, RUN: run})
    if found and fault_of(target) is None:
        return True
    shutil.rmtree(target)
    return False


def _state_of(damaged: Path) -> dict[str, Any] | None:
    try:
        return load_state(damaged)
    except (OSError, RuntimeError, EOFError, ValueError):
        return None
