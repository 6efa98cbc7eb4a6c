"""Serve a trained network by HTTP to programs on this machine: a scan in; labels, volumes or a mesh out.

Ctrl-C ends it. Needs ossnet[serve].
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from ossnet.commands._output import finish
from ossnet.commands._parse import Command, extract
from ossnet.inference.config import PredictConfig

_TURN_S = 3600.0


@dataclass(frozen=True)
class ServeOptions(PredictConfig):
    """Options of this job."""

    checkpoint: tuple[Path, ...] = ()
    """Folder that training wrote; by default that of a short training on a phantom. Several of one task, or
    a study's folder with an ensemble: the mean of their probabilities decides."""
    host: str = "127.0.0.1"
    """Address to listen at. One that others reach needs a token of your own."""
    port: int = 8000
    """Port to listen at."""
    token_file: Path | None = None
    """File with the token that clients show; by default that in OSSNET_TOKEN, else a new one is made, and
    the file it is in is named."""
    max_upload: str = "1GiB"
    """Largest scan, as it is sent and unpacked."""


COMMAND = Command("serve", str(__doc__), ServeOptions)


def main(arguments: Sequence[str]) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    options = COMMAND.parse(arguments)
    from ossnet.distributed.serving.launch import ServerSpec, check_installed, serving
    from ossnet.inference.batch.runner import PredictionJob
    from ossnet.memory.parse import parse_memory
    from ossnet.output.claim import is_by_ray
    from ossnet.output.remote.copies import fetch_input

    check_installed()
    max_upload = parse_memory(options.max_upload)
    checkpoints = tuple(fetch_input(path, is_by_ray).absolute() for path in options.checkpoint)
    checkpoints = checkpoints or (_demo().checkpoint().absolute(),)
    job = PredictionJob(checkpoints, Path(), extract(PredictConfig, options))
    spec = ServerSpec(job, host=options.host, port=options.port, max_upload=max_upload)
    with serving(spec, options.token_file) as server:
        facts = {
            "network": f"{server.network}: {', '.join(server.modalities)} to {', '.join(server.classes)}",
            "address": server.url,
            "token": server.token_file or "that of OSSNET_TOKEN",
        }
        finish(facts, follow_up=server.example)
        sys.stdout.flush()
        while True:
            time.sleep(_TURN_S)


def _demo() -> ModuleType:
    from ossnet.distributed import demo  # which trains, unlike serving a network that there is

    return demo
