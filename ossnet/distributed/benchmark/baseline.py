"""Ray Tune with Optuna and successive halving put together as in Ray's documentation: what to compare with.

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
from ossnet.distributed.tuning.search_space import NETWORK, Space, apply_overrides
from ossnet.metric_names import EPOCH, MEMORY, VAL_DICE


@dataclass(frozen=True)
class BaselineContext:
    """What all trials share."""

    base: str
    """The configuration as JSON."""
    store: str
    folder: str
    """Where each trial notes what it came to."""


def search(
    space: Space, kit: BaselineContext, *, trials: int, seed: int, early_stopping: EarlyStoppingConfig
) -> list[TrialRow]:
    """Run a study, one trial at a time; its trials in their order."""
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    training = Config.from_json(kit.base).training
    tune.Tuner(
        tune.with_resources(tune.with_parameters(_trial, kit=kit), {"CPU": 1}),
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(space, metric=VAL_DICE, mode="max", seed=seed),
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
        run_config=tune.RunConfig(name="trials", storage_path=kit.folder, verbose=0),
    ).fit()
    notes = [json.loads(path.read_text()) for path in Path(kit.folder).glob("*.json")]
    notes.sort(key=lambda note: float(note["began"]))
    return [TrialRow(note.get(VAL_DICE), note.get(MEMORY), note["cpu_s"], note["first_s"]) for note in notes]


class _Reporter:
    """Reports what was validated to Ray Tune, and notes it in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._note: dict[str, float] = {"began": time.time()}
        self._began = time.process_time()

    def step(self, metrics: dict[str, float], step: int) -> None:
        """Nothing."""

    def epoch(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        """Note an epoch, and report it where it was validated."""
        from ray import tune

        spent = time.process_time() - self._began
        known = {name: metrics[name] for name in (MEMORY, VAL_DICE) if name in metrics}
        self._note |= known | {"cpu_s": spent, "first_s": self._note.get("first_s", spent)}
        self._path.write_text(json.dumps(self._note))
        if VAL_DICE in metrics:
            tune.report(dict(metrics))


def _trial(config: dict[str, Any], kit: BaselineContext) -> None:
    from ray import tune

    from ossnet.training_run import run_training

    store = Store.open(Path(kit.store))
    changes = {name: value for name, value in config.items() if "." in name or name == NETWORK}
    path = Path(kit.folder) / f"{tune.get_context().get_trial_id()}.json"
    run_training(apply_overrides(Config.from_json(kit.base), changes, store), store, reporter=_Reporter(path))
