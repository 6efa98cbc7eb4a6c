"""Say what memory a network, or a whole search space, will need before anything is paid for."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ossnet import cli

if TYPE_CHECKING:
    from ossnet.config import Config
    from ossnet.data.store.dataset_info import DatasetSpec


@dataclass(frozen=True)
class Plan:
    """Options of this job."""

    data: Path | None = None
    """Store that decides sizes; by default the paper's BraTS, where dotted options do not say otherwise."""
    model: str = "oss-net-c"
    """Preset of the network; its fields are options of their own (--model.decoder-width)."""
    space: Path | None = None
    """Search space to plan, instead of one network."""
    samples: int = 24
    """Configurations to draw from the space."""
    memory_budget: str = "8GB"
    """Memory of the GPU to fit, as 8GiB or 8GB."""
    measure: bool = False
    """Take a real step as well, as is always done where there is a GPU."""
    output: Path | None = None
    """Folder for growth.png; by default runs/plan-DATE-TIME."""
    json: bool = False
    """Print the result for machines, last and alone."""


def main() -> None:
    """Run the job."""
    options, config = cli.parse_with_config(Plan, description=str(__doc__), default=_default)
    from ossnet.memory.parse import parse_memory
    from ossnet.planning.estimate import outlook, should_measure
    from ossnet.planning.estimator import PeakEstimator
    from ossnet.planning.report import Report, show, show_parts

    budget = parse_memory(options.memory_budget)
    configs = _configs(options, config)
    measured = should_measure(asked=options.measure)
    forecast, outlooks = PeakEstimator(), []
    for name, each in configs:
        outlooks.append(outlook(each, forecast, name=name, measured=measured))
        print(f"{len(outlooks)}/{len(configs)} {name}", file=sys.stderr)
    report = Report(budget=budget, outlooks=tuple(outlooks))
    if not options.json:
        show(outlooks)
        if options.space is None:
            show_parts(outlooks[0])
        print(report.shares(), flush=True)  # what follows takes a while
    if options.space is None:
        report = report.with_growth(configs[0][1], forecast, options.output or cli.new_folder("plan"))
    if options.json:
        cli.finish_json(report.to_dict())
    else:
        cli.finish(made=report.told())


def _configs(options: Plan, config: "Config") -> list[tuple[str, "Config"]]:
    study: DatasetSpec | None = _study(options.data)
    if study is None:
        study = config.dummy_dataset()
        config = config.replace({"sampling.working_shape": None})  # settled below, for the network
    if options.space is None:
        return [(config.model.name, config.resolve_for(study))]
    from ossnet.distributed.tuning.search_space import (
        sample_configs,  # needs Optuna, which planning one network does not
    )

    return sample_configs(options.space, config, study, count=options.samples)


def _study(data: Path | None) -> "DatasetSpec | None":
    from ossnet.data import Store

    return None if data is None else Store.open(data)


def _default(model: str | None, data: Path | None) -> "Config":
    from ossnet.config import Config
    from ossnet.data.store.dataset_info import BRATS

    return Config.preset(model or "oss-net-c", _study(data) or BRATS)


if __name__ == "__main__":
    cli.run(main)
