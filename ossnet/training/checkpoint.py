"""Checkpoints without pickle: weights as safetensors, configuration as JSON, the rest read `weights_only`."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ossnet import schemas
from ossnet.errors import UserError
from ossnet.output.atomic_write import atomic_folder

logger = logging.getLogger(__name__)

RUN = "run"
"""In the state of a checkpoint: the id of the run that it is of; None where nobody gave it one."""


def save_checkpoint(
    folder: Path,
    *,
    network: nn.Module,
    documents: Mapping[str, str],
    state: Mapping[str, Any],
) -> None:
    """Write a checkpoint to `folder` atomically; an earlier one stays until the new one is whole.

    Args:
        documents: JSON texts by file name, such as the configuration.
        state: what training needs to continue (tensors and plain values).

    Raises:
        UserError: it cannot be written there.
    """
    from safetensors.torch import save

    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with atomic_folder(folder) as aside:
        (aside / "model.safetensors").write_bytes(save(weights))  # its own writer's errors have no number
        save_state(aside / "state.pt", state)
        for name, text in documents.items():
            (aside / name).write_text(text)
        (aside / "version.json").write_text(json.dumps({"format": schemas.CHECKPOINT}))


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write the `state` of a checkpoint.

    Raises:
        OSError: the file's error, not the one that torch makes of it.
    """
    try:
        with path.open("wb") as file:
            torch.save(dict(state), file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def check_checkpoint(folder: Path) -> None:
    """Reject what is no checkpoint of ours, or one of another format.

    Raises:
        UserError: names the folder, what is missing or of which format it is, and what to do.
    """
    version = folder / "version.json"
    if not version.is_file():
        raise UserError(
            folder,
            expected="a checkpoint",
            found=f"no checkpoint ({_what_is(folder)})",
            remedy="give the folder that training wrote",
        )
    found = json.loads(version.read_text()).get("format")
    if found != schemas.CHECKPOINT:
        older = isinstance(found, int) and found < schemas.CHECKPOINT
        remedy = "train the network again to write a new one" if older else "use the ossnet that wrote it"
        raise UserError(
            folder,
            expected=f"a checkpoint of format {schemas.CHECKPOINT}",
            found=f"one of the {'old ' if older else ''}format {found}",
            remedy=remedy,
        )


def _what_is(folder: Path) -> str:
    """What is in the place of a checkpoint, as far as that is easily told."""
    if not folder.exists():
        return "no such folder"
    if not folder.is_dir():
        return "a file"
    if (folder / "manifest.json").is_file():
        return "a store of cases"
    if (folder / "study.db").is_file():
        return "a study without a result yet"
    return "version.json is missing" if any(folder.iterdir()) else "an empty folder"


def load_weights(folder: Path, network: nn.Module) -> None:
    """Load the weights of a checkpoint that was checked into a network built from its configuration."""
    from safetensors.torch import load_file

    network.load_state_dict(load_file(folder / "model.safetensors"))


def load_state(folder: Path) -> dict[str, Any]:
    """Load the `state` that `save_checkpoint` wrote, of a checkpoint that was checked."""
    return torch.load(folder / "state.pt", weights_only=True, map_location="cpu")


def fault_of(folder: Path) -> str | None:
    """Why a checkpoint cannot be read, as one that was cut short; None where it can be."""
    from safetensors import SafetensorError, safe_open

    try:
        check_checkpoint(folder)
        for document in folder.glob("*.json"):
            json.loads(document.read_text())
        load_state(folder)
        with safe_open(folder / "model.safetensors", framework="pt"):
            pass  # its header gives the file's length
    except (UserError, OSError, ValueError, RuntimeError, EOFError, SafetensorError) as error:
        return type(error).__name__
    return None


def is_complete(folder: Path) -> bool:
    """Whether a checkpoint can be read; a copy that was cut short cannot, which is logged."""
    fault = fault_of(folder)
    if fault is not None:
        logger.info(f"{folder}: ignored, as it is not complete ({fault})")
    return fault is None


def is_of(folder: Path, run: str) -> bool:
    """Whether a checkpoint that can be read is of this run, as far as it says; another's is logged."""
    found = load_state(folder).get(RUN)
    if found not in {None, run}:  # those of before say nothing
        logger.warning(f"warning: {folder}: ignored, as it is of another run ({found})")
        return False
    return True
