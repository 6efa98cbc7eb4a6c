"""Where a trial of an earlier session stood."""

import logging
from pathlib import Path

from ossnet.errors import UserError
from ossnet.training.checkpoint import check_checkpoint, load_state

logger = logging.getLogger(__name__)


FOLDER = "trials"
NESTED = "workers"


def folder_name(number: int, seed: int, trial_id: str) -> str:
    """The folder of one try of a training; several tries of the same one sort together."""
    return f"{number:03d}.{seed}-{trial_id}"


def latest_checkpoint(output: Path, number: int, seed: int, run: str) -> Path | None:
    """The last whole checkpoint that a training left; copies that a loss cut short are passed over.

    Args:
        output: the study's folder.
        run: the training's id, by which one of several workers is stored.
    """
    found = [
        *(output / FOLDER).glob(f"{folder_name(number, seed, '*')}/checkpoint_*/"),
        *(output / NESTED / run).glob("checkpoint_*/"),
    ]
    found.sort(key=lambda folder: folder.stat().st_mtime, reverse=True)
    return next(filter(_whole, found), None)


def _whole(folder: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    try:
        check_checkpoint(folder)
        load_state(folder)
        with safe_open(folder / "model.safetensors", framework="pt"):
            pass  # its header tells the file's length
    except (UserError, OSError, ValueError, RuntimeError, EOFError, SafetensorError) as error:
        logger.info(f"{folder}: passed over, as it is not whole ({type(error).__name__})")
        return False
    return True
