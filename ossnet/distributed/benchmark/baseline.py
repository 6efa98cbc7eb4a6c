"""The baseline: Ray Tune with Optuna and successive halving, put together as in Ray's documentation.

https://docs.ray.io/en/latest/tune/examples/optuna_example.html, with the scheduler of its page on ASHA.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ossnet.config import Config
from ossnet.data import Store
from ossnet.distributed.benchmark.results import TrialRow
from ossnet.distributed.tuning.config import EarlyStoppingConfig
from ossnet.distributed.tuning.search_space import Space
from ossnet.metric_names import EPOCH, MEMORY, VAL_DICE
from ossnet.output.atomic_write import atomic_write
from ossnet.planning.configure.fingerprint import Fingerprint
from ossnet.planning.configure.planner import NETWORK, Planner


@dataclass(frozen=True)
class BaselineContext:
    """The values that all trials of a study share."""

    base: str
    """The configuration as JSON."""
    store: str
    """Path of the store."""
    folder: str
    """The folder where each trial writes its record, a JSON file."""


def search(
    space: Space, context: BaselineContext, *, trials: int, seed: int, early_stopping: EarlyStoppingConfig
) -> list[TrialRow]:
    """Run a study, one trial at a time; returns its trials in their order."""
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    from ossnet.distributed.benchmark.redrawing_search import RedrawingSearch

    training = Config.from_json(context.base).training
    tune.Tuner(
        tune.with_resources(tune.with_parameters(_trial, context=context), {"CPU": 1}),
        tune_config=tune.TuneConfig(
            search_alg=RedrawingSearch(space, metric=VAL_DICE, mode="max", seed=seed),
            scheduler=ASHAScheduler(
                time_attr=EPOCH,
                metric=VAL_DICE,
                mode="max",
                max_t=training.epochs,
                grace_period=training.validate_every,
                reduction_factor=early_stopping.reduction_factor,
            ),
            num_samples=trials,
            max_concurrent_trials=1,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(name="trials", storage_path=context.folder, verbose=0),
    ).fit()
    records = [json.loads(path.read_text()) for path in Path(context.folder).glob("*.json")]
    records.sort(key=lambda record: float(record["start"]))
    return [
        TrialRow(each.get(VAL_DICE), each.get(MEMORY), each["cpu_s"], each["first_s"]) for each in records
    ]


class _Reporter:
    """Reports each validation to Ray Tune, and writes a record of the trial to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._record: dict[str, float] = {"start": time.time()}
        self._start_s = time.process_time()

    def step(self, metrics: dict[str, float], step: int) -> None:
        """Ignore the metrics of a single step."""

    def epoch(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        """Update the record, and report the epoch to Ray Tune where it was validated."""
        from ray import tune

        spent = time.process_time() - self._start_s
        measured = {name: metrics[name] for name in (MEMORY, VAL_DICE) if name in metrics}
        self._record |= measured | {"cpu_s": spent, "first_s": self._record.get("first_s", spent)}
        atomic_write(self._path, json.dumps(self._record))
        if VAL_DICE in metrics:
            tune.report(dict(metrics))


def _trial(config: dict[str, Any], context: BaselineContext) -> None:
    from ray import tune

    from ossnet.training_run import run_training

    store = Store.open(Path(context.store))
    changes = {name: value for name, value in config.items() if "." in name or name == NETWORK}
    path = Path(context.folder) / f"{tune.get_context().get_trial_id()}.json"
    planner = Planner.around(Config.from_json(context.base), Fingerprint.of(store))
    run_training(planner.resolve(changes=changes).config, store, reporter=_Reporter(path))
