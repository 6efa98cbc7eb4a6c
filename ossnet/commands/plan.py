"""Predict the memory that a network or a whole search space needs, before anything is paid for."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ossnet.commands._output import command_line, finish, finish_json, new_folder
from ossnet.commands._parse import Command, Dotted, parse_with_config
from ossnet.commands._values import Recipe, budget_gib, space_file

if TYPE_CHECKING:
    from ossnet.config import Config
    from ossnet.data.store.dataset_info import DatasetSpec
    from ossnet.planning.configure.planner import Planner, Resolved
    from ossnet.planning.estimator import PeakEstimator
    from ossnet.planning.refusals import Refusal


@dataclass(frozen=True)
class PlanOptions:
    """Options of this job."""

    data: Path | None = None
    """Store that decides sizes; by default the paper's BraTS, where dotted options do not say otherwise."""
    model: str = "oss-net-c"
    """Preset of the network; its fields are options of their own (--model.decoder-width)."""
    recipe: Recipe = "auto"
    """Defaults that suit the data, or the paper's."""
    space: str | None = None
    """Search space to plan, instead of one network: a Python file, or the name of one of ossnet's."""
    samples: int = 24
    """Configurations to sample from the space."""
    memory_budget: str | None = None
    """Peak memory of a training step that configurations are fitted to, as in train and tune; also the GPU
    whose largest sizes are searched, else of 8GB."""
    measure: bool = False
    """Take a real step too, as is always done where there is a GPU."""
    output: Path | None = None
    """Folder for growth.png; by default runs/plan-DATE-TIME."""
    json: bool = False
    """Print the result as JSON, last and alone."""


COMMAND = Command("plan", str(__doc__), PlanOptions, configurable=True)


def main(arguments: Sequence[str]) -> None:
    """Predict, and print tables of what needs how much and what fits."""
    options, dotted = parse_with_config(COMMAND, arguments, _preset)
    from ossnet.output.claim import claimed_output

    sources = [] if options.data is None else [options.data]
    with claimed_output(options.output or new_folder("plan"), "plan", sources=sources) as output:
        _plan(options, dotted, output)


def _plan(options: PlanOptions, dotted: Dotted, output: Path) -> None:
    from ossnet.config_tree import to_dict
    from ossnet.memory.parse import parse_memory
    from ossnet.output.progress import progress
    from ossnet.planning.estimate import estimate_memory, should_measure
    from ossnet.planning.estimator import PeakEstimator
    from ossnet.planning.report import Report, show, show_parts

    budget = parse_memory(options.memory_budget or "8GB")
    estimator, estimates = PeakEstimator(), []
    with progress("resolving"):
        configs = _resolved(options, _planner(options, dotted, estimator))
    measured = should_measure(requested=options.measure)
    with progress("predicting", total=len(configs), unit="configuration") as shown:
        for name, each in configs:
            estimates.append(estimate_memory(each.config, estimator, name=name, measured=measured))
            shown(note=f"last {name}")
            shown.say(f"{len(estimates)}/{len(configs)} {name}")
    report = Report(budget=budget, estimates=tuple(estimates))
    fitting, refusals = sum(each.fits for _, each in configs), _refusals(configs)
    if not options.json:
        show(estimates)
        if options.space is None:
            show_parts(estimates[0])
        print(report.fit_line(), flush=True)  # what follows takes a while
        if options.space is not None and options.memory_budget is not None:
            print(f"{fitting} of {len(configs)} are resolved to a step within {options.memory_budget}")
            print("".join(f"  refused: {each}\n" for each in refusals), end="")
    if options.space is None:
        with progress("searching the largest sizes"):
            report = report.with_scaling(configs[0][1].config, estimator, output)
    if options.json:
        resolved = [each.to_dict() for _, each in configs]
        refused = [to_dict(each) | {"option": each.option} for each in refusals]
        finish_json(report.to_dict() | {"resolved": resolved, "refused": refused})
    else:
        finish(report.summary(), follow_up=_follow_up(options))


def _resolved(options: PlanOptions, planner: "Planner") -> list[tuple[str, "Resolved"]]:
    if options.space is None:
        resolved = planner.resolve().require_fit()
        if resolved.choices:
            print(resolved, file=sys.stderr)
        return [(resolved.config.model.name, resolved)]
    from ossnet.distributed.tuning.search_space import (
        sample_configs,  # needs Optuna, which planning one network does not
    )

    return sample_configs(space_file(options.space), planner, count=options.samples)


def _refusals(configs: Sequence[tuple[str, "Resolved"]]) -> tuple["Refusal", ...]:
    """What no saving brings within the budget."""
    from ossnet.planning.refusals import Refusal

    return Refusal.collect(
        (each.config.model.name, "memory", each.peak_gib)
        for _, each in configs
        if not each.fits and each.peak_gib is not None
    )


def _planner(options: PlanOptions, dotted: Dotted, estimator: "PeakEstimator") -> "Planner":
    from ossnet.planning.configure.fingerprint import Fingerprint
    from ossnet.planning.configure.planner import Planner, check_auto
    from ossnet.planning.configure.recipe import Device

    check_auto(dotted.auto, dotted.given, options.recipe)
    dataset: DatasetSpec | None = _study(options.data)
    given = dict(dotted.given)
    if dataset is None:
        config = _preset(options.model, None).replace(given)
        dataset = config.dummy_dataset()
        given.pop("sampling.working_shape", None)  # the data set has it, and it is rounded for the network
        if options.recipe == "paper":  # sized for the paper's volumes, whatever the shape
            config = config.replace({"sampling.working_shape": None})
            return Planner.around(config, Fingerprint.of(dataset), estimator=estimator)
    return Planner(
        dataset=Fingerprint.of(dataset, fold=given.get("training.fold")),
        network=options.model,
        recipe=options.recipe,
        budget_gib=budget_gib(options.memory_budget),
        given=given,
        device=Device.here(),
        estimator=estimator,
    )


def _follow_up(options: PlanOptions) -> str | None:
    from ossnet.planning.configure.recipe import Device, suggested_network

    if options.data is None:
        return None
    return command_line("train", "--data", options.data, "--model", suggested_network(Device.here()))


def _study(data: Path | None) -> "DatasetSpec | None":
    from ossnet.data import Store

    return None if data is None else Store.open(data)


def _preset(model: str, data: Path | None) -> "Config":
    from ossnet.config import Config
    from ossnet.data.store.dataset_info import BRATS

    return Config.preset(model, _study(data) or BRATS)
