"""The recipe `auto` as one table: each field that a data set, a device or a network decides, and why.

A row's value may depend on the rows above it. What a user or a search space gives is never touched.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from ossnet.config import Config
from ossnet.models import DenseConfig, OccupancyConfig, ResidualEncoderUNetConfig
from ossnet.planning.configure.fingerprint import Fingerprint
from ossnet.sampling.grid import working_shape
from ossnet.sizing import encoder_downscale, encoder_levels, latent_grid

Recipe = Literal["auto", "paper"]
"""auto: what this project measured as best; paper: the paper's recipe."""

FEWEST_POINTS, MOST_POINTS = 2**10, 2**14
VOXELS_A_POINT = 32
MOST_VOLUMES, CPU_VOLUMES = 8, 2
CPU_POINTS = 2**15  # of a step on a CPU: more take longer than they teach
CPU_CROP_EDGE = 64  # of a 3-D U-Net's samples on a CPU, for the same reason
BORDER_FRACTION, BORDER_VOXELS = 0.5, 3.0
QUERY_BORDER_FRACTION, QUERY_LEARNING_RATE = 0.8, 3e-3  # of networks that query features, on a CPU
RARE, RARE_FRACTION = 1e-3, 0.25  # a label of fewer voxels gets a share of points of its own
LEARNING_RATE = 2e-3
CPU_DECODER = {"decoder_width": 128, "decoder_blocks": 3, "patch_edge": 5}
CPU_QUERY_DECODER = {"decoder_width": 64, "decoder_blocks": 2, "patch_edge": 3}
STEPS, FEWEST_EPOCHS, MOST_EPOCHS = 1000, 50, 500
VALIDATIONS = 10


@dataclass(frozen=True)
class Device:
    """What networks are trained on."""

    kind: Literal["cpu", "cuda"] = "cpu"
    bf16: bool = False
    """Whether it multiplies matrices in bfloat16 by hardware."""

    @classmethod
    def here(cls) -> "Device":
        """This process's device: a GPU if there is one."""
        import torch

        if not torch.cuda.is_available():
            return cls()
        return cls("cuda", bf16=torch.cuda.is_bf16_supported(including_emulation=False))


@dataclass(frozen=True)
class Facts:
    """What the rules read besides the rows above them."""

    dataset: Fingerprint
    device: Device
    workers: int
    """Training processes that share a batch, at least."""
    most_workers: int
    """And at most."""
    given: frozenset[str]
    """The fields that are given."""


@dataclass(frozen=True)
class Rule:
    """A row of the table."""

    topic: str
    """Rows of one topic are printed together."""
    path: str
    value: Callable[[Config, Facts], Any]
    reason: str
    applies: Callable[[Config], bool] = lambda _: True

    def __call__(self, config: Config, facts: Facts) -> Any:
        """The field's value, for the configuration that the rows above gave."""
        return self.value(config, facts)


def suggested_network(device: Device) -> str:
    """The network to begin with: on a CPU the one that learns fastest there, on a GPU the paper's."""
    return "feature-query-patch" if device.kind == "cpu" else "oss-net-c"


def _occupancy(config: Config) -> bool:
    return isinstance(config.model, OccupancyConfig)


def _dense(config: Config) -> bool:
    return isinstance(config.model, DenseConfig)


def _patches(config: Config) -> bool:
    return isinstance(config.model, OccupancyConfig) and config.model.patch_channels > 0


def _few_volumes(config: Config) -> bool:
    """Networks that were measured with few volumes a step."""
    model = config.model
    if isinstance(model, OccupancyConfig):
        return model.feature_query
    return isinstance(model, DenseConfig) and model.spatial_dims == 3


def _checkpointable(config: Config) -> bool:
    return hasattr(config.model, "checkpoint_activations")


def _queries_on_cpu(config: Config, facts: Facts) -> bool:
    """Whether the network queries features, and is trained on a CPU: the lean decoder was measured there."""
    model = config.model
    return facts.device.kind == "cpu" and isinstance(model, OccupancyConfig) and model.feature_query


def _on_cpu(field: str) -> Callable[[Config, Facts], int]:
    """The network's own value, on a CPU at most so much."""

    def value(config: Config, facts: Facts) -> int:
        own: int = getattr(config.model, field)
        most = CPU_QUERY_DECODER if _queries_on_cpu(config, facts) else CPU_DECODER
        return min(own, most[field]) if facts.device.kind == "cpu" else own

    return value


def _fixed(value: Any) -> Callable[[Config, Facts], Any]:
    return lambda _, __: value


def _points(_: Config, facts: Facts) -> int:
    wanted = facts.dataset.voxels / VOXELS_A_POINT
    return min(max(2 ** round(math.log2(max(wanted, 1))), FEWEST_POINTS), MOST_POINTS)


def _foreground(config: Config, facts: Facts) -> float:
    rarest, sampling = facts.dataset.rarest, config.sampling
    if len(facts.dataset.class_fractions) < 2 or rarest is None or rarest >= RARE:
        return 0.0
    given = sampling.border_fraction + sampling.gaussian_fraction + sampling.uncertain_fraction
    return max(min(RARE_FRACTION, 1 - given), 0.0)


def _border(config: Config, facts: Facts) -> float:
    sampling = config.sampling
    others = sampling.foreground_fraction + sampling.gaussian_fraction + sampling.uncertain_fraction
    wanted = QUERY_BORDER_FRACTION if _queries_on_cpu(config, facts) else BORDER_FRACTION
    return max(min(wanted, 1 - others), 0.0)


def _learning_rate(config: Config, facts: Facts) -> float:
    return QUERY_LEARNING_RATE if _queries_on_cpu(config, facts) else LEARNING_RATE


def _border_unit(_: Config, facts: Facts) -> str:
    return "mm" if "sampling.border_width" in facts.given else "voxels"


def _border_width(config: Config, facts: Facts) -> float:
    if config.sampling.border_unit == "voxels" or facts.dataset.spacing is None:
        return BORDER_VOXELS
    return BORDER_VOXELS * min(facts.dataset.spacing)


def _crop(config: Config, facts: Facts) -> tuple[int, ...] | None:
    """On a CPU a 3-D U-Net's crop of a larger volume, of two cells or more at the coarsest level."""
    model, shape = config.model, config.sampling.working_shape
    assert isinstance(model, DenseConfig)
    multiple = model.grid_multiple
    edge = max(2 * multiple, math.ceil(CPU_CROP_EDGE / multiple) * multiple)
    if facts.device.kind != "cpu" or model.spatial_dims == 2 or shape is None or max(shape) <= edge:
        return None
    return tuple(min(length, edge) for length in shape)


def _batch(config: Config, facts: Facts) -> int:
    """As many volumes as there are, up to a number that suits the device; a multiple of the workers."""
    cases, on_cpu = facts.dataset.training_cases, facts.device.kind == "cpu"
    most = CPU_VOLUMES if on_cpu and _few_volumes(config) else MOST_VOLUMES
    if on_cpu and _occupancy(config):
        most = max(min(most, CPU_POINTS // config.sampling.points), 1)
    most = most if cases is None else min(most, max(cases, 1))
    return max(most // facts.most_workers, 1) * facts.most_workers


def _epochs(config: Config, facts: Facts) -> int:
    steps = (facts.dataset.training_cases or MOST_VOLUMES) / config.training.batch_size
    steps *= config.training.steps_per_batch or 1
    return min(max(math.ceil(STEPS / steps), FEWEST_EPOCHS), MOST_EPOCHS)


def _channels(config: Config, facts: Facts) -> tuple[int, ...]:
    """The network's own widths; nnU-Net's are halved on a CPU, for four times the steps."""
    widths: tuple[int, ...] = config.model.channels  # type: ignore[attr-defined]
    halved = facts.device.kind == "cpu" and isinstance(config.model, ResidualEncoderUNetConfig)
    return tuple(width // 2 for width in widths) if halved else widths


def _schedule(config: Config, _: Facts) -> str:
    return "polynomial" if isinstance(config.model, ResidualEncoderUNetConfig) else "cosine"


def _model(config: Config) -> OccupancyConfig:
    assert isinstance(config.model, OccupancyConfig)
    return config.model


RULES: tuple[Rule, ...] = (
    Rule(
        "decoder",
        "model.decoder_width",
        _on_cpu("decoder_width"),
        "on a CPU the decoder takes most of a step",
        _occupancy,
    ),
    Rule("decoder", "model.decoder_blocks", _on_cpu("decoder_blocks"), "", _occupancy),
    Rule("decoder", "model.patch_edge", _on_cpu("patch_edge"), "", _patches),
    Rule("decoder", "model.coordinates", _fixed("normalized"), "", _occupancy),
    Rule(
        "encoder",
        "model.encoder_downscale",
        lambda config, facts: encoder_downscale(_model(config), facts.dataset.max_shape),
        "as coarse and as deep as volumes of this size allow",
        _occupancy,
    ),
    Rule(
        "encoder",
        "model.encoder_channels",
        lambda config, facts: encoder_levels(_model(config), facts.dataset.max_shape),
        "",
        _occupancy,
    ),
    Rule(
        "encoder",
        "model.latent_grid",
        lambda config, facts: latent_grid(_model(config), facts.dataset.max_shape),
        "",
        _occupancy,
    ),
    Rule(
        "levels",
        "model.channels",
        _channels,
        "as deep as volumes of this size allow",
        lambda config: hasattr(config.model, "channels"),
    ),
    Rule(
        "volume",
        "sampling.working_shape",
        lambda config, facts: working_shape(facts.dataset.max_shape, multiple=config.model.grid_multiple),
        "the largest case, rounded up so that every level halves evenly",
    ),
    Rule("volume", "sampling.crop_shape", _crop, "on a CPU whole volumes allow too few steps", _dense),
    Rule(
        "points",
        "sampling.points",
        _points,
        f"a point for {VOXELS_A_POINT} voxels, most of them where the decision is made",
        _occupancy,
    ),
    Rule("points", "sampling.foreground_fraction", _foreground, "", _occupancy),
    Rule("points", "sampling.border_fraction", _border, "", _occupancy),
    Rule("points", "sampling.border_unit", _border_unit, "", _occupancy),
    Rule("points", "sampling.border_width", _border_width, "", _occupancy),
    Rule(
        "step",
        "training.batch_size",
        _batch,
        "all parts of a batch fit at once; few on a CPU, for more steps",
    ),
    Rule("step", "training.accumulation_steps", _fixed(1), ""),
    Rule("step", "model.checkpoint_activations", _fixed(False), "", _checkpointable),
    Rule(
        "step",
        "training.precision",
        lambda _, facts: "bf16" if facts.device.bf16 else "float32",
        "",
    ),
    Rule(
        "optimizer", "optimizer.name", _fixed("adamw"), "learns in a tenth of the steps of the paper's recipe"
    ),
    Rule("optimizer", "optimizer.learning_rate", _learning_rate, ""),
    Rule("optimizer", "optimizer.pade_learning_rate", lambda config, _: config.optimizer.learning_rate, ""),
    Rule("optimizer", "optimizer.schedule", _schedule, ""),
    Rule("loss", "loss.dice_weight", _fixed(1.0), "Dice is what counts in the end"),
    Rule(
        "length",
        "training.epochs",
        _epochs,
        f"about {STEPS} steps, and at least {FEWEST_EPOCHS} epochs, validated {VALIDATIONS} times",
    ),
    Rule(
        "length",
        "training.validate_every",
        lambda config, _: max(min(config.training.epochs, MOST_EPOCHS) // VALIDATIONS, 1),
        "",
    ),
)
"""The rules in the order in which they are applied."""
AUTO_PATHS = frozenset(rule.path for rule in RULES)
"""The fields that may be `auto`."""
