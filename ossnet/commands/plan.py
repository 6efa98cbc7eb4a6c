"""Predict the memory that a network or a whole search space needs, before anything is paid for."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ossnet.commands._output import finish, finish_json, new_folder
from ossnet.commands._parse import Command, parse_with_config
from ossnet.commands._values import space_file

if TYPE_CHECKING:
    from ossnet.config import Config
    from ossnet.data.store.dataset_info import DatasetSpec


@dataclass(frozen=True)
class PlanOptions:
    """Options of this job."""

    data: Path | None = None
    """Store that decides sizes; by default the paper's BraTS, where dotted options do not say otherwise."""
    model: str = "oss-net-c"
    """Preset of the network; its fields are options of their own (--model.decoder-width)."""
    space: str | None = None
    """Search space to plan, instead of one network: a Python file, or the name of one of ossnet's."""
    samples: int = 24
    """Configurations to sample from the space."""
    memory_budget: str = "8GB"
    """Memory of the GPU to fit, as 8GiB or 8GB."""
    measure: bool = False
    """Take a real step too, as is always done where there is a GPU."""
    output: Path | None = None
    """Folder for growth.png; by default runs/plan-DATE-TIME."""
    json: bool = False
    """Print the result as JSON, last and alone."""


COMMAND = Command("plan", str(__doc__), PlanOptions, configurable=True)


def main(arguments: Sequence[str]) -> None:
    """Predict, and print tables of what needs how much and what fits."""
    options, config = parse_with_config(COMMAND, arguments, _default)
    from ossnet.output.claim import claimed_output

    sources = [] if options.data is None else [options.data]
    with claimed_output(options.output or new_folder("plan"), "plan", sources=sources) as output:
        _plan(options, config, output)


def _plan(options: PlanOptions, config: "Config", output: Path) -> None:
    from ossnet.memory.parse import parse_memory
    from ossnet.planning.estimate import estimate_memory, should_measure
    from ossnet.planning.estimator import PeakEstimator
    from ossnet.planning.report import Report, show, show_parts

    budget = parse_memory(options.memory_budget)
    configs = _configs(options, config)
    measured = should_measure(requested=options.measure)
    estimator, estimates = PeakEstimator(), []
    for name, each in configs:
        estimates.append(estimate_memory(each, estimator, name=name, measured=measured))
        print(f"{len(estimates)}/{len(configs)} {name}", file=sys.stderr)
    report = Report(budget=budget, estimates=tuple(estimates))
    if not options.json:
        show(estimates)
        if options.space is None:
            show_parts(estimates[0])
        print(report.fit_line(), flush=True)  # what follows takes a while
    if options.space is None:
        report = report.with_scaling(configs[0][1], estimator, output)
    if options.json:
        finish_json(report.to_dict())
    else:
        finish(report.summary())


def _configs(options: PlanOptions, config: "Config") -> list[tuple[str, "Config"]]:
    study: DatasetSpec | None = _study(options.data)
    if study is None:
        study = config.dummy_dataset()
        config = config.replace({"sampling.working_shape": None})  # settled below, for the network
    if options.space is None:
        return [(config.model.name, config.resolve_for(study))]
    from ossnet.distributed.tuning.search_space import (
        sample_configs,  # needs Optuna, which planning one network does not
    )

    return sample_configs(space_file(options.space), config, study, count=options.samples)


def _study(data: Path | None) -> "DatasetSpec | None":
    from ossnet.data import Store

    return None if data is None else Store.open(data)


def _default(model: str, data: Path | None) -> "Config":
    from ossnet.config import Config
    from ossnet.data.store.dataset_info import BRATS

    return Config.preset(model, _study(data) or BRATS)
