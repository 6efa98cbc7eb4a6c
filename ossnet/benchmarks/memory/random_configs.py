"""Configurations drawn at random, of every network and all that takes memory, small enough to be tried."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from ossnet.config import Config
from ossnet.models import OccupancyConfig, ResidualEncoderUNetConfig, UNetConfig, network_config
from ossnet.sampling.grid import working_shape

_EDGES = (32, 48, 64, 96)


@dataclass(frozen=True)
class RandomConfig:
    """A random configuration, and the number of workers that share its batch."""

    config: Config
    workers: int
    options: str
    """The sampled values, as options of `ossnet plan`."""


def draw(network: str, random: Random) -> RandomConfig:
    """A configuration of a preset."""
    model = _model(network, random)
    sized = network_config(network, **model)
    if isinstance(sized, OccupancyConfig):
        sampling = _points(random)
    else:
        sampling = {"slices": random.randint(1, 6), "crop_shape": random.choice([None, [32, 32, 32]])}
    shape = [random.choice(_EDGES) for _ in range(3)]
    batch = random.randint(1, 4)
    training = {"batch_size": batch, "precision": random.choice(["float32", "bf16"])}
    parts = {
        "model": model,
        "sampling": sampling | {"working_shape": list(working_shape(shape, multiple=sized.grid_multiple))},
        "training": training,
        "optimizer": {"name": random.choice(["lookahead-radam", "adamw"])},
        "loss": {"dice_weight": random.choice([0.0, 1.0]), "focal_weight": random.choice([0.0, 1.0])},
    }
    changes = {f"{part}.{name}": value for part, values in parts.items() for name, value in values.items()}
    config = Config(model=network_config(network)).replace(changes)
    return RandomConfig(config, random.choice([1, min(batch, 2)]), _options(changes))


def _model(network: str, random: Random) -> dict[str, Any]:
    first, levels = random.choice([4, 8, 16]), random.randint(2, 4)
    channels = [first * 2**level for level in range(levels)]
    classes = random.randint(1, 3)
    model: dict[str, Any] = {
        "in_channels": random.randint(1, 4),
        "classes": classes,
        "overlapping": classes > 1 and random.choice([False, True]),
        "checkpoint_activations": random.choice([False, True]),
    }
    preset = network_config(network)
    if isinstance(preset, UNetConfig):
        return model | {"channels": channels, "residual_units": random.randint(1, 2)}
    if isinstance(preset, ResidualEncoderUNetConfig):
        return model | {"channels": channels, "deep_supervision": random.choice([True, False])}
    return model | {
        "encoder_channels": channels,
        "latent_grid": random.choice([[4, 4, 2], [4, 4, 4], [8, 8, 5]]),
        "decoder_width": random.choice([32, 64, 128, 256]),
        "decoder_blocks": random.randint(1, 5),
        "patch_edge": random.choice([3, 5, 7]),
        "distance_head": random.choice([False, True]),
        "conditional_norm": random.choice(["scalar", "feature"]),
    }


def _points(random: Random) -> dict[str, Any]:
    return {"points": 2 ** random.randint(8, 13), "uncertain_fraction": random.choice([0.0, 0.0, 0.3])}


def _options(changes: dict[str, Any]) -> str:
    given = {path: value for path, value in changes.items() if value is not None and value is not False}
    return " ".join(f"--{path.replace('_', '-')} {_plain(value)}".strip() for path, value in given.items())


def _plain(value: Any) -> str:
    if value is True:
        return ""  # a flag
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " ".join(map(str, value))
    return str(value)
