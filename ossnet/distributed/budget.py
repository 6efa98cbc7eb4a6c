"""Whether a configuration fits the memory budget, told before it takes a slot."""

import json
import time
from dataclasses import dataclass

from ossnet.config import Config
from ossnet.data import Store
from ossnet.distributed.space import Space, configure, draws
from ossnet.errors import UserError
from ossnet.tree import to_dict

_SURVEY_S = 20.0  # what a look at the whole space may take
_FEWEST = 8


class Forecast:
    """Predicts peaks. Configurations that differ only in what takes no memory are predicted once."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._known: dict[str, float] = {}

    def gib(self, config: Config) -> float:
        """Peak memory of a training step of one worker."""
        from ossnet.planning import predict

        key = _weights(config)
        if key not in self._known:
            self._known[key] = predict(config, workers=self._workers).allocated_gib
        return self._known[key]


def _weights(config: Config) -> str:
    """All of a configuration that takes memory."""
    sampling, training = config.sampling, config.training
    optimiser = {name: value for name, value in to_dict(config.optimiser).items() if not _is_number(value)}
    kept = {
        "model": to_dict(config.model),
        "loss": to_dict(config.loss),
        "optimiser": optimiser,
        "points": (sampling.drawn, sampling.candidates, sampling.uncertain_points),
        "voxels": (sampling.working_shape, sampling.crop_shape, sampling.slices),
        "training": (training.batch_size, training.precision),
    }
    return json.dumps(kept, sort_keys=True)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(frozen=True)
class Survey:
    """How much of a space fits a budget, by random draws."""

    drawn: int
    fitting: int
    smallest_gib: float
    largest_gib: float

    @property
    def share(self) -> float:
        """Of the draws that fit."""
        return self.fitting / self.drawn

    def __str__(self) -> str:
        return (
            f"about {self.share:.0%} of the space fits "
            f"({self.fitting} of {self.drawn} random configurations; "
            f"predicted {self.smallest_gib:.3g} to {self.largest_gib:.3g} GiB)"
        )


def survey(space: Space, base: Config, store: Store, forecast: Forecast, budget_gib: float) -> Survey:
    """Draw from a space at random, for some seconds at most, and predict every draw.

    Raises:
        UserError: nothing fits.
    """
    began, peaks = time.monotonic(), list[float]()
    for _, changes in draws(space):
        peaks.append(forecast.gib(configure(base, changes, store)))
        if time.monotonic() - began > _SURVEY_S and len(peaks) >= _FEWEST:
            break
    fitting = sum(peak <= budget_gib for peak in peaks)
    found = Survey(len(peaks), fitting, min(peaks), max(peaks))
    if not fitting:
        msg = (
            f"{space.path.name}: none of {found.drawn} random configurations fits {budget_gib:.3g} GiB, the "
            f"smallest is predicted at {found.smallest_gib:.3g} GiB: raise --memory-budget or widen the space"
        )
        raise UserError(msg)
    return found
