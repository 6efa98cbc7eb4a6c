"""Search a space of networks and settings with Ray Tune and Optuna; every trial is a run in MLflow."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ossnet.commands._interrupt import resumable
from ossnet.commands._output import command_line, finish, finish_json, new_folder
from ossnet.commands._parse import Command, Dotted, parse_with_config
from ossnet.commands._values import (
    Recipe,
    Resume,
    budget_gib,
    check_counts,
    check_values,
    make_planner,
    parse_duration,
    patience,
    preset_config,
    resumes,
    space_file,
)
from ossnet.distributed.tuning.config import (
    EarlyStoppingConfig,
    OptimizationConfig,
    SamplerName,
    parse_objectives,
)
from ossnet.output.progress import progress

if TYPE_CHECKING:
    from ossnet.data import Store
    from ossnet.distributed.tracking.client import TrackingConfig
    from ossnet.distributed.tuning.result import StudyResult
    from ossnet.planning.configure.planner import Planner


@dataclass(frozen=True)
class TuneOptions:
    """Options of this job."""

    data: Path | None = None
    """Store that `prepare` wrote; by default a small phantom that this job makes."""
    space: str = "default"
    """Python file with space(trial), or one of ossnet's."""
    model: str = "oss-net-c"
    """Preset of the network, where the space names none."""
    recipe: Recipe = "auto"
    """Defaults that suit the data, or the paper's."""
    trials: int | None = None
    """Configurations to try, at most; by default 10, or as planned."""
    max_time: str | None = None
    """Time for everything, as 20m or 1h30m; trials are planned to fit."""
    refit: bool = True
    """Use all of --max-time for trials, not its last third to train the best one on."""
    ensemble: int | None = None
    """Choose so many of the best networks, or fewer, to predict together."""
    memory_budget: str | None = None
    """Peak memory of a step, as 8GiB, to which every trial is fitted."""
    inference_budget: str | None = None
    """Peak memory of predicting a case, as 2GiB, that no trial may pass."""
    seconds_per_case: str | None = None
    """Time of predicting a case, as 5s or 0.5s, that no trial may pass."""
    objectives: str = "dice"
    """dice, and any of memory, inference-memory and seconds (a case)."""
    sampler: SamplerName = "tpe"
    """gp and nsga2 learn nothing from stopped trials."""
    seeds: int = 1
    """Trainings of each configuration that comes to its end."""
    warm_start: str | None = None
    """An MLflow experiment whose last study the sampler learns from."""
    resume: Resume = None
    """Continue the study in --output; auto: start it where there is none."""
    workers_per_trial: int = 1
    """Training processes of each trial, through Ray Train."""
    early_stopping: EarlyStoppingConfig = field(default_factory=EarlyStoppingConfig)
    """When a trial that falls behind is stopped."""
    output: Path | None = None
    """Folder for the study; by default runs/tune-DATE-TIME."""
    experiment: str | None = None
    """MLflow experiment; by default named after the space."""
    grace: str = "30s"
    """Time to save a checkpoint when Ctrl-C or SIGTERM ends the job."""
    wait_at_most: str | None = None
    """Time to wait for nodes, or for another job to leave --output."""
    json: bool = False
    """Print the result as JSON, last and alone."""

    def __post_init__(self) -> None:
        check_counts(trials=self.trials, workers_per_trial=self.workers_per_trial)


COMMAND = Command("tune", str(__doc__), TuneOptions, configurable=True)


def main(arguments: Sequence[str]) -> None:
    """Search, and print the best trial and how to report the study."""
    began = time.time()
    options, dotted = parse_with_config(COMMAND, arguments, preset_config, check=_check)
    with progress("loading libraries"):
        from ossnet.distributed import demo, launch
        from ossnet.distributed.tuning.recovery.database import holds_study
        from ossnet.distributed.tuning.search_space import Space
        from ossnet.distributed.tuning.study import StudySpec

    space = space_file(options.space)
    name = options.experiment or space.stem
    store = demo.open_store(options.data)
    planner = _planner(options, dotted, store)
    output, tracking = launch.resolve_output(options.output or new_folder("tune"), "tune", name)
    spec = StudySpec(
        name=name,
        space=Space(space),
        base=planner.base,
        planner=planner,
        store=store,
        output=output,
        tracking=tracking,
        trials=options.trials,
        workers=options.workers_per_trial,
        early_stopping=options.early_stopping,
        max_time_s=None if options.max_time is None else parse_duration(options.max_time),
        began=began,
        refit=options.refit,
        ensemble=options.ensemble,
        timed=not any(each.startswith(("--training.epochs", "--training.max-time")) for each in arguments),
        optimization=_optimization(options),
        warm_start=options.warm_start,
        resume=resumes(options.resume, output, lambda: holds_study(output)),
        patience=patience(options.grace, options.wait_at_most),
    )
    with resumable("tune", arguments, output, state="study.db"):
        result = launch.launch_study(spec)
    _finish(options, result, output, name, tracking)


def _check(options: TuneOptions) -> None:
    check_values(options)
    _optimization(options)


def _finish(
    options: TuneOptions, result: "StudyResult", output: Path, name: str, tracking: "TrackingConfig"
) -> None:
    if options.json:
        finish_json(result.to_dict() | {"output": output, "mlflow": tracking.uri})
        return
    rows = {"Optuna study": output / "study.db", "MLflow": tracking.uri}
    rows |= {"open it with": tracking.open_command}
    if result.ensemble is not None:
        rows |= {"predict with it by": command_line("predict", "--checkpoint", output)}
    report = ["--experiment", name, "--output", output / "report"]
    finish(result.summary() | rows, follow_up=command_line("report", *report))


def _planner(options: TuneOptions, dotted: Dotted, store: "Store") -> "Planner":
    return make_planner(
        store,
        options.data,
        model=options.model,
        recipe=options.recipe,
        dotted=dotted,
        workers=options.workers_per_trial,
        budget_gib=budget_gib(options.memory_budget),
    )


def _optimization(options: TuneOptions) -> OptimizationConfig:
    seconds = options.seconds_per_case
    return OptimizationConfig(
        budget_gib=budget_gib(options.memory_budget),
        objectives=parse_objectives(options.objectives),
        sampler=options.sampler,
        seeds=options.seeds,
        inference_budget_gib=budget_gib(options.inference_budget),
        seconds_per_case=None if seconds is None else parse_duration(seconds),
    )
