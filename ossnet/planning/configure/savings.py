"""What is given up, and in which order, until a configuration fits a memory budget: one table."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ossnet.config import Config
from ossnet.models import DenseConfig, OccupancyConfig
from ossnet.planning.configure.recipe import Facts

Changes = dict[str, Any]


@dataclass(frozen=True)
class Saving:
    """A row: a field that is lowered in steps, the least costly rows first."""

    path: str
    lower: Callable[[Config, Facts], Any]
    """The field's next lower value; None where it is at its floor, or of no use."""


def rungs(config: Config, facts: Facts) -> Iterator[Config]:
    """The configuration, then ever smaller ones: each row of the table down to its floor, row after row.

    What is given is not touched.
    """
    yield config
    for saving in SAVINGS:
        if saving.path in facts.given:
            continue
        while (value := saving.lower(config, facts)) is not None:
            smaller = config.replace({saving.path: value})
            if smaller.is_too_deep:
                break
            yield (config := smaller)


def _parts(volumes: int) -> Callable[[Config, Facts], int | None]:
    """More parts of a batch, while a part holds more than so many volumes."""

    def lower(config: Config, facts: Facts) -> int | None:
        training = config.training
        share = -(-training.batch_size // facts.workers)
        now = -(-share // training.accumulation_steps)
        if now <= volumes:
            return None
        return -(-share // max(volumes, now // 2))

    return lower


def _points(least: int) -> Callable[[Config, Facts], int | None]:
    def lower(config: Config, _: Facts) -> int | None:
        points = config.sampling.points
        if not isinstance(config.model, OccupancyConfig) or points <= least:
            return None
        return max(points // 2, least)

    return lower


def _batch(config: Config, facts: Facts) -> int | None:
    """Fewer volumes: only where the number of parts is given, as else a part is one volume by now."""
    training = config.training
    share = training.batch_size // facts.workers
    if share <= training.accumulation_steps or "training.accumulation_steps" not in facts.given:
        return None
    lower = max(share // 2, training.accumulation_steps) * facts.workers
    return lower if lower >= facts.most_workers else None


def _checkpointing(config: Config, _: Facts) -> bool | None:
    return True if getattr(config.model, "checkpoint_activations", True) is False else None


def _bf16(config: Config, facts: Facts) -> str | None:
    return "bf16" if facts.device.bf16 and config.training.precision == "float32" else None


def _crop(config: Config, _: Facts) -> tuple[int, int, int] | None:
    """A crop without a third of its longest edge; two cells remain along each axis at the coarsest level."""
    model, crop = config.model, config.sampling.crop_shape or config.sampling.working_shape
    if not isinstance(model, DenseConfig) or model.spatial_dims != 3 or crop is None:
        return None
    multiple, longest = model.grid_multiple, max(crop)
    shorter = max(2 * multiple, math.ceil(longest * 2 / 3 / multiple) * multiple)
    if shorter >= longest:
        return None
    x, y, z = (shorter if edge == longest else edge for edge in crop)
    return x, y, z


def _slices(config: Config, _: Facts) -> int | None:
    model, slices = config.model, config.sampling.slices
    flat = isinstance(model, DenseConfig) and model.spatial_dims == 2
    return slices // 2 if flat and slices > 1 else None


def _width(config: Config, _: Facts) -> int | None:
    model = config.model
    return (
        model.decoder_width // 2 if isinstance(model, OccupancyConfig) and model.decoder_width > 16 else None
    )


def _halved(field: str) -> Callable[[Config, Facts], tuple[int, ...] | None]:
    """Every level of half the width, down to four features at the first."""

    def lower(config: Config, _: Facts) -> tuple[int, ...] | None:
        widths: tuple[int, ...] = getattr(config.model, field, ())
        return tuple(width // 2 for width in widths) if widths and widths[0] >= 8 else None

    return lower


SAVINGS: tuple[Saving, ...] = (
    Saving("training.accumulation_steps", _parts(2)),
    Saving("sampling.points", _points(2**10)),
    Saving("model.checkpoint_activations", _checkpointing),
    Saving("training.accumulation_steps", _parts(1)),
    Saving("training.batch_size", _batch),
    Saving("training.precision", _bf16),
    Saving("sampling.slices", _slices),
    Saving("sampling.crop_shape", _crop),
    Saving("model.channels", _halved("channels")),
    Saving("model.decoder_width", _width),
    Saving("model.encoder_channels", _halved("encoder_channels")),
    Saving("sampling.points", _points(2**7)),
)
"""What is lowered, in this order. A part of a batch is as good as the whole but for batch statistics, and
takes hardly longer; recomputing costs a third of the time; narrower networks come last."""
SAVED_PATHS = tuple(dict.fromkeys(saving.path for saving in SAVINGS))
