"""Train one network on a store with Ray Train, on one worker or several."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ossnet.commands._interrupt import resumable
from ossnet.commands._output import command_line, finish, finish_json, new_folder
from ossnet.commands._parse import Command, parse_with_config
from ossnet.commands._values import parse_duration

if TYPE_CHECKING:
    from ossnet.config import Config


@dataclass(frozen=True)
class TrainOptions:
    """Options of this job."""

    data: Path | None = None
    """Store that `prepare` wrote; by default a small phantom that this job makes."""
    model: str = "oss-net-c"
    """Preset of the network; its fields are options of their own (--model.decoder-width)."""
    workers: int = 1
    """Training processes; each takes a GPU where there are any, else its share of the CPUs."""
    max_time: str | None = None
    """Time for everything, as 90s, 20m or 1h30m: training ends in time to validate and to save."""
    epochs: int | None = None
    """Passes over the training cases."""
    resume: bool = False
    """Continue the run in --output."""
    output: Path | None = None
    """Folder for the run; by default runs/train-DATE-TIME."""
    experiment: str = "train"
    """MLflow experiment."""
    json: bool = False
    """Print the result as JSON, last and alone."""


COMMAND = Command("train", str(__doc__), TrainOptions, configurable=True)


def main(arguments: Sequence[str]) -> None:
    """Train, and print where the checkpoint is and how to evaluate it."""
    began = time.time()
    options, config = parse_with_config(COMMAND, arguments, _default)
    from ossnet.distributed import demo, launch

    store = demo.open_store(options.data)
    output, tracking = launch.resolve_output(options.output or new_folder("train"), options.experiment)
    max_time_s = None if options.max_time is None else parse_duration(options.max_time)
    with resumable("train", arguments, output, state="config.json"):
        outcome = launch.launch_training(
            launch.with_limits(config, store, epochs=options.epochs, max_time_s=max_time_s),
            store,
            output=output,
            workers=options.workers,
            tracking=tracking,
            resume=options.resume,
            deadline=None if max_time_s is None else began + max_time_s,
        )
    if options.json:
        finish_json(outcome.to_dict() | {"output": output, "mlflow": tracking.uri})
        return
    split = [] if store.split("validation", fold=config.training.fold) else ["--split", "training"]
    follow_up = ["--checkpoint", outcome.checkpoint, "--data", store.root, *split]
    finish(
        outcome.summary() | {"MLflow": tracking.uri, "open it with": tracking.open_command},
        follow_up=command_line("evaluate", *follow_up, "--output", output / "evaluation"),
    )


def _default(model: str, data: Path | None) -> "Config":
    from ossnet.distributed.demo import default_config

    return default_config(model, data)
