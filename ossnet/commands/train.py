"""Train one network on a store with Ray Train, on one worker or several."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ossnet.commands._interrupt import resumable
from ossnet.commands._output import command_line, finish, finish_json, new_folder
from ossnet.commands._parse import Command, parse_with_config
from ossnet.commands._values import (
    Recipe,
    Resume,
    budget_gib,
    check_values,
    make_planner,
    parse_duration,
    parse_workers,
    patience,
    preset_config,
    resumes,
)
from ossnet.errors import UserError
from ossnet.output.progress import progress

if TYPE_CHECKING:
    from ossnet.commands._parse import Dotted
    from ossnet.config import Config
    from ossnet.data import Store
    from ossnet.distributed.folds import FoldsResult
    from ossnet.distributed.training.trainer import TrainResult
    from ossnet.planning.configure.planner import Resolved


@dataclass(frozen=True)
class TrainOptions:
    """Options of this job."""

    data: Path | None = None
    """Store that `prepare` wrote; by default a small phantom that this job makes."""
    model: str = "oss-net-c"
    """Preset of the network; its fields are options of their own (--model.decoder-width)."""
    recipe: Recipe = "auto"
    """Defaults that suit the data, or the paper's."""
    memory_budget: str | None = None
    """Peak memory of a training step that the configuration is fitted to, as in 8GiB."""
    workers: str = "1"
    """Training processes; each takes a GPU where there are any, else its share of the CPUs. As 2-8: as many
    as the cluster has room for, while nodes come and go; the batch and its steps stay the same."""
    max_time: str | None = None
    """Time for everything, as 90s, 20m or 1h30m: training ends in time to validate and to save."""
    epochs: int | None = None
    """Passes over the training cases."""
    initialize_from: Path | None = None
    """Start from the weights, and with the sizes, of this checkpoint or run of the same --model; other
    modalities and classes are mapped by name."""
    folds: Literal["all"] | None = None
    """all: train on every fold of the store in turn, as one study of runs."""
    resume: Resume = None
    """Continue the run in --output; auto: start it where there is none."""
    output: Path | None = None
    """Folder for the run; by default runs/train-DATE-TIME."""
    experiment: str = "train"
    """MLflow experiment."""
    grace: str = "30s"
    """Time to save a checkpoint when Ctrl-C or SIGTERM ends the job."""
    wait_at_most: str | None = None
    """Time to wait for nodes, or for another job to leave --output."""
    json: bool = False
    """Print the result as JSON, last and alone."""


COMMAND = Command("train", str(__doc__), TrainOptions, configurable=True)


def main(arguments: Sequence[str]) -> None:
    """Train, and print where the checkpoint is and how to evaluate it."""
    began = time.time()
    options, dotted = parse_with_config(COMMAND, arguments, preset_config, check=check_values)
    workers = parse_workers(options.workers)
    with progress("loading libraries"):
        from ossnet.distributed import demo, folds, launch

    store = demo.open_store(options.data)
    output, tracking = launch.resolve_output(
        options.output or new_folder("train"), "train", options.experiment
    )
    max_time_s = None if options.max_time is None else parse_duration(options.max_time)
    state = "config.json" if options.folds is None else folds.FILE
    resume = resumes(options.resume, output, (output / state).exists)
    config, resolved = _resolve(options, dotted, store, output, resume=resume)
    train = launch.launch_training if options.folds is None else folds.launch_folds
    with resumable("train", arguments, output, state=state):
        outcome = train(
            launch.with_limits(config, store, epochs=options.epochs, max_time_s=max_time_s),
            store,
            output=output,
            workers=workers,
            tracking=tracking,
            resume=resume,
            resolved=resolved,
            deadline=None if max_time_s is None else began + max_time_s,
            patience=patience(options.grace, options.wait_at_most),
        )
    if options.json:
        finish_json(outcome.to_dict() | {"output": output, "mlflow": tracking.uri})
        return
    rows = outcome.summary() | {"MLflow": tracking.uri, "open it with": tracking.open_command}
    finish(rows, follow_up=_follow_up(outcome, store, config, output))


def _follow_up(outcome: "TrainResult | FoldsResult", store: "Store", config: "Config", output: Path) -> str:
    """The command that evaluates a network, or that predicts with those of all folds."""
    from ossnet.distributed.folds import FoldsResult

    if isinstance(outcome, FoldsResult):
        checkpoints = ["--checkpoint", *outcome.checkpoints]
        return command_line("predict", *checkpoints, "--input", "SCANS", "--output", output / "predictions")
    split = [] if store.split("validation", fold=config.training.fold) else ["--split", "training"]
    options = ["--checkpoint", outcome.checkpoint, "--data", store.root, *split]
    return command_line("evaluate", *options, "--output", output / "evaluation")


def _initialized(options: TrainOptions, dotted: "Dotted") -> dict[str, Any]:
    """What the checkpoint that a network starts from gives: its sizes, where no option says otherwise."""
    if options.initialize_from is None:
        return {}
    from ossnet.models import network_config
    from ossnet.output.claim import is_by_ray
    from ossnet.output.remote.copies import fetch_input, location_of
    from ossnet.training.initialize import TrainedNetwork

    trained = TrainedNetwork.read(fetch_input(options.initialize_from, is_by_ray))
    trained.check_preset(network_config(options.model))
    free = {*dotted.given, "model.checkpoint_activations"}  # the latter changes no weight
    sizes = {path: value for path, value in trained.sizes().items() if path not in free}
    return {**sizes, "training.initialize_from": location_of(trained.folder.absolute())}


def _resolve(
    options: TrainOptions, dotted: "Dotted", store: "Store", output: Path, *, resume: bool
) -> tuple["Config", "Resolved | None"]:
    """The configuration, and how it came about; a resumed run keeps what it began with."""
    from ossnet.config import Config
    from ossnet.distributed.folds import fold_folder

    before, initialized = output / "config.json", _initialized(options, dotted)
    if options.folds is not None:
        if "training.fold" in dotted.given:
            raise UserError("--folds all", expected="no --training.fold beside it", found="both")
        before = fold_folder(output, 0) / "config.json"
        initialized |= {"training.fold": 0}
    if resume and before.is_file():
        begun = Config.from_json(before)
        if begun.model.name == options.model:
            return begun.replace({**dotted.given, **initialized}), None
    from ossnet.distributed.cluster.resources import fewest, most
    from ossnet.planning.estimator import PeakEstimator

    workers = parse_workers(options.workers)
    planner = make_planner(
        store,
        options.data,
        model=options.model,
        recipe=options.recipe,
        dotted=dotted,
        more={"training.epochs": options.epochs, **initialized},
        workers=fewest(workers),
        most_workers=most(workers),
        estimator=PeakEstimator(fewest(workers), most(workers)),
        budget_gib=budget_gib(options.memory_budget),
    )
    resolved = planner.resolve().require_fit()
    return resolved.config, resolved
