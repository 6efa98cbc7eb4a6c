"""Table 2 of the paper, training memory: rebuilt line by line from what its code keeps, next to ours.

The reference is not run here: what autograd keeps of it follows from its layers (a step of one volume,
float32, its Pade unit keeping its input only): repeated latents and gammas, and every map between two
operations. Ours keeps what a fused step cannot make again.

Letters: N points, W decoder width, L latent length.
"""

from math import prod
from typing import Any

import pytest

from ossnet.config import Config
from ossnet.models import OccupancyConfig, network_config
from ossnet.planning.estimator import PeakEstimator

ESTIMATOR = PeakEstimator()
N, W, FLOAT = 2**14, 512, 4
SHAPES = {"brats": (256, 256, 160), "lits": (512, 512, 512)}
PAPER_GB = {
    "brats": {"o-net": 2.35, "oss-net-a": 2.58, "oss-net-b": 2.76, "oss-net-c": 2.59, "oss-net-d": 2.76},
    "lits": {"o-net": 5.07, "oss-net-a": 5.18, "oss-net-b": 5.21, "oss-net-c": 5.19, "oss-net-d": 5.22},
}
ROWS = [(dataset, name) for dataset, rows in PAPER_GB.items() for name in rows]
PARAMETERS = {
    "brats": (6_890_753, 7_245_438, 7_254_358, 8_695_733, 8_704_653),
    "lits": (9_057_237, 9_409_177, 9_409_520, 10_866_490, 10_866_833),
}


def step_bytes(config: Config) -> int:
    """Bytes of a step alone, as the paper counts: its next batch waits in the host's memory."""
    peak = ESTIMATOR.training(config)
    return peak.allocated - peak.parts["next_batch"]


def occupancy(dataset: str, name: str) -> OccupancyConfig:
    model = network_config(name, dataset=dataset)
    assert isinstance(model, OccupancyConfig)
    return model


def configured(dataset: str, name: str, **changes: Any) -> Config:
    values = {path.replace("__", "."): value for path, value in changes.items()}
    return Config(model=network_config(name, dataset=dataset)).replace(
        {"sampling.working_shape": list(SHAPES[dataset]), "training.batch_size": 1, **values}
    )


def reference_lines(dataset: str, name: str) -> dict[str, int]:
    """Bytes that the reference holds when its backward pass begins."""
    model = occupancy(dataset, name)
    grid = prod(edge // 2 for edge in SHAPES[dataset])
    channels, hidden = model.patch_channels, max(model.patch_channels // 2, 1)
    block_maps = 0
    for level, width in enumerate(model.encoder_channels):
        # At full resolution a convolution, its normalization, its activation and the unpooled shortcut; at
        # half what enters the second convolution, what leaves it, the sum with the shortcut, its activation.
        block_maps += width * grid // 8**level * 4 + width * grid // 8 ** (level + 1) * 4
    features = 3 + model.point_features + model.latent_length
    count = PARAMETERS[dataset][list(PAPER_GB[dataset]).index(name)]
    numbers = {
        "encoder input": model.in_channels * grid,
        "encoder": block_maps,
        "patches": N * 343 * channels,
        # Both convolutions' outputs and the first activation; the second one goes into the decoder's input.
        "patch encoder": N * 343 * (2 * hidden + 1) if channels else 0,
        "decoder input, latent repeated": N * features,
        # Two linear outputs, their standardized forms, sums before and values after the activations a block,
        "decoder": 5 * 8 * N * W,
        # and a gain for each point, twice.
        "gammas repeated": 5 * 2 * N * W,
        "parameters and two moments": 3 * count,
        "first gradient": N * W,
    }
    return {line: FLOAT * number for line, number in numbers.items()}


@pytest.mark.parametrize(("dataset", "name"), ROWS)
def test_the_papers_figure_is_the_sum_of_its_lines(dataset: str, name: str) -> None:
    total = sum(reference_lines(dataset, name).values()) / 1e9
    assert total == pytest.approx(PAPER_GB[dataset][name], rel=0.03)


def test_the_papers_u_net_keeps_sixteen_maps_a_level() -> None:
    """Its widths are not published. Two residual units a level that keep seven maps each, and two in the
    joint, 16 channels wide at full resolution and doubled at each of five levels, come to 14.41 GB."""
    maps = sum(16 * 16 * 2**level * prod(SHAPES["brats"]) // 8**level for level in range(5))
    assert maps * FLOAT / 1e9 == pytest.approx(14.41, rel=0.03)
    ours = step_bytes(configured("brats", "unet-3d")) / 1e9  # MONAI's halves in its first convolution
    assert ours == pytest.approx(2.246, rel=0.01)


def test_the_papers_slices_grow_with_their_pixels() -> None:
    """1.16 and 4.29 GB for one slice of 256^2 and 512^2: 16 kB a pixel and 0.12 GB that do not grow."""
    pixel = (4.29e9 - 1.16e9) / (512**2 - 256**2)
    fixed = 1.16e9 - pixel * 256**2
    assert pixel == pytest.approx(15_920, rel=0.01)
    assert fixed == pytest.approx(0.117e9, rel=0.01)
    one, two = (step_bytes(configured("brats", "unet-2d", sampling__slices=n)) for n in (1, 2))
    assert (two - one) / 256**2 == pytest.approx(670, rel=0.05)  # of ours
    assert 2 * one - two < 0.117e9


def test_parts_of_ours_are_what_a_step_cannot_make_again() -> None:
    """A block of the decoder keeps three tensors of the reference's ten, the encoder a quarter of its maps,
    the patch encoder its own matrices alone."""
    parts = ESTIMATOR.training(configured("brats", "oss-net-c")).parts
    reference = reference_lines("brats", "oss-net-c")
    decoder = 15 * N * W * FLOAT
    assert parts["decoder"] == pytest.approx(decoder, rel=0.01)
    assert parts["encoder"] < 0.25 * reference["encoder"]
    assert parts["patches"] < 0.02 * reference["patch encoder"]
    assert sum(parts.values()) - parts["next_batch"] < 0.35 * sum(reference.values())


def floors(model: OccupancyConfig, *, activation: int) -> tuple[int, int]:
    """The least that an exact step can hold: making everything again, and no matrix product twice.

    Everything can be made again from the batch, piece by piece, as statistics are sums; then parameters,
    moments, slow weights and the batch remain. Without a second product or convolution their outputs must be
    kept: all that lies between is elementwise, and a layer's input follows from the outputs before it.
    """
    grid = prod(edge // 2 for edge in SHAPES["brats"])
    count = PARAMETERS["brats"][3]
    batch = model.in_channels * grid + N * (343 * model.patch_channels + 3)
    again = FLOAT * (4 * count + batch)
    outputs = N * W * (2 * 5 + 1) + N * 343 * (model.patch_channels // 2 + 1)
    for level, width in enumerate(model.encoder_channels):
        outputs += width * grid // 8**level + 2 * width * grid // 8 ** (level + 1)
    return again, again + activation * (outputs + N * W)  # and one gradient


def test_distance_to_the_floor() -> None:
    again, once = floors(occupancy("brats", "oss-net-c"), activation=FLOAT)
    assert again == pytest.approx(0.250e9, rel=0.01)
    assert once == pytest.approx(0.860e9, rel=0.01)
    assert once < step_bytes(configured("brats", "oss-net-c")) < 1.3 * once
    saving = step_bytes(configured("brats", "oss-net-c", model__checkpoint_activations=True))
    assert again < saving < 2.4 * again


@pytest.mark.parametrize(
    ("changes", "most_gb"),
    [
        ({}, 1.2),
        ({"training__precision": "bf16"}, 0.7),
        ({"model__checkpoint_activations": True}, 0.6),
    ],
)
def test_oss_net_c_at_native_size_keeps_its_promise(changes: dict[str, Any], most_gb: float) -> None:
    assert step_bytes(configured("brats", "oss-net-c", **changes)) <= most_gb * 1e9
