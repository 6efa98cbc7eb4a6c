"""Predicted against measured peaks, and both against what the shapes alone decide."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ossnet.config import Config
from ossnet.data import Store
from ossnet.data.labels.presets import choose_regions
from ossnet.errors import UserError
from ossnet.models import OccupancyConfig, network_config
from ossnet.planning import measure, predict
from ossnet.planning.estimator import PeakEstimator
from ossnet.planning.peak import neediest
from ossnet.sampling.batches import drawing_bytes
from ossnet.sampling.sampler import largest_part
from ossnet.training_run import run_training

PAPER_GB = {"o-net": 2.35, "oss-net-a": 2.58, "oss-net-b": 2.76, "oss-net-c": 2.59, "oss-net-d": 2.76}
"""Table 2 of the paper, BraTS, training with 2^14 points."""


SMALL = {"encoder_channels": (4, 8), "decoder_width": 32, "decoder_blocks": 2}


def configured(name: str, **changes: Any) -> Config:
    small: dict[str, Any] = {"channels": (4, 8)} if "unet" in name else SMALL
    dotted = {path.replace("__", "."): value for path, value in changes.items()}
    return Config(model=network_config(name, in_channels=2, classes=2, **small)).replace(
        {"sampling.working_shape": [32, 32, 16], "training.batch_size": 2, "sampling.points": 100, **dotted}
    )


OCCUPANCY = st.fixed_dictionaries(
    {
        "model__decoder_width": st.sampled_from([16, 48, 96]),
        "model__decoder_blocks": st.integers(1, 3),
        "model__patch_edge": st.sampled_from([3, 5, 7]),
        "model__encoder_channels": st.sampled_from([(4,), (8, 16), (8, 8, 16)]),
        "model__latent_grid": st.sampled_from([(2, 2, 2), (4, 4, 2)]),
        "sampling__points": st.integers(16, 600),
        "training__batch_size": st.integers(1, 3),
        "training__precision": st.sampled_from(["float32", "bf16"]),
        "optimizer__name": st.sampled_from(["lookahead-radam", "adamw"]),
        "model__distance_head": st.booleans(),
        "model__checkpoint_activations": st.booleans(),
        "model__overlapping": st.booleans(),
        "sampling__uncertain_fraction": st.sampled_from([0.0, 0.5, 1.0]),
    }
)
UNET = st.fixed_dictionaries(
    {
        "model__channels": st.sampled_from([(4, 8), (8, 8, 16)]),
        "model__checkpoint_activations": st.booleans(),
        "model__overlapping": st.booleans(),
        "sampling__crop_shape": st.sampled_from([None, (16, 24, 16)]),
        "sampling__slices": st.integers(1, 5),
        "training__batch_size": st.integers(1, 3),
        "training__precision": st.sampled_from(["float32", "bf16"]),
    }
)


MANY_PARTS = {  # more points than the patch encoder takes at a time
    "model__decoder_width": 16,
    "model__decoder_blocks": 1,
    "model__patch_edge": 7,
    "model__encoder_channels": (4,),
    "model__latent_grid": (2, 2, 2),
    "sampling__points": 182,
    "training__precision": "float32",
    "optimizer__name": "lookahead-radam",
}

TWO_TILES = {  # a tile a volume, of copies in the precision of the tiles
    "model__decoder_width": 16,
    "model__decoder_blocks": 1,
    "model__encoder_channels": (4,),
    "model__latent_grid": (2, 2, 2),
    "sampling__points": 16,
    "training__precision": "bf16",
}


@settings(max_examples=3)
@example("oss-net-d", MANY_PARTS)
@example("o-net", TWO_TILES)
@given(st.sampled_from(["o-net", "oss-net-a", "oss-net-b", "oss-net-c", "oss-net-d"]), OCCUPANCY)
def test_predicted_is_measured_for_occupancy_networks(name: str, changes: dict[str, Any]) -> None:
    config = configured(name, **changes)
    predicted, measured = predict(config), measure(config, device="cpu")
    assert predicted.allocated == pytest.approx(measured.allocated, rel=0.01)
    assert predicted.precision == measured.precision == config.training.precision


@pytest.mark.parametrize("recomputed", [False, True])
def test_the_levels_of_a_feature_pyramid_are_predicted_as_they_are(recomputed: bool) -> None:
    config = configured(
        "feature-pyramid",
        model__encoder_channels=(8, 16),
        model__encoder_downscale=1,
        model__checkpoint_activations=recomputed,
        sampling__working_shape=(48, 48, 32),
    )
    assert predict(config).allocated == pytest.approx(measure(config, device="cpu").allocated, rel=0.002)


@settings(max_examples=3)
@given(st.sampled_from(["feature-query", "feature-query-patch", "feature-pyramid"]), OCCUPANCY)
def test_predicted_is_measured_where_feature_maps_are_sampled(name: str, changes: dict[str, Any]) -> None:
    """In bfloat16 the CPU's kernel makes do without an index of 8 bytes a corner, which a GPU's makes."""
    config = configured(name, **changes)
    spared = 0
    if config.training.precision == "bf16":
        maps = len(config.model.encoder_channels) + 1  # type: ignore[union-attr]
        spared = 8 * 8 * maps * config.sampling.points * config.training.batch_size
    measured = measure(config, device="cpu").allocated
    assert 0.99 * measured <= predict(config).allocated <= 1.01 * measured + spared


@settings(max_examples=3)
@given(st.sampled_from(["unet-3d", "unet-2d"]), UNET)
def test_predicted_is_measured_for_unets(name: str, changes: dict[str, Any]) -> None:
    config = configured(name, **changes)
    assert predict(config).allocated == pytest.approx(measure(config, device="cpu").allocated, rel=0.01)


@pytest.mark.parametrize(
    ("supervised", "recomputed", "precision"),
    [(True, False, "float32"), (True, True, "float32"), (False, False, "float32"), (True, False, "bf16")],
)
def test_predicted_is_measured_where_coarser_levels_are_supervised(
    supervised: bool, recomputed: bool, precision: str
) -> None:
    config = configured(
        "residual-encoder-unet",
        model__channels=(4, 8, 8, 8),
        model__deep_supervision=supervised,
        model__checkpoint_activations=recomputed,
        sampling__working_shape=(24, 16, 16),
        loss__dice_weight=1.0,
        optimizer__name="sgd" if supervised else "adamw",
        training__precision=precision,
    )
    predicted, measured = predict(config), measure(config, device="cpu")
    assert predicted.allocated == pytest.approx(measured.allocated, rel=0.002)
    assert {"encoder", "decoder"} <= measured.parts.keys()


@pytest.mark.parametrize(("name", "share"), [("unet-3d", 0.66), ("unet-2d", 0.6)])
def test_recomputed_activations_save_memory_and_are_predicted(name: str, share: float) -> None:
    changes = {"model__channels": (8, 16, 32), "sampling__working_shape": (64, 64, 64)}
    plain, recomputing = (
        configured(name, **changes, model__checkpoint_activations=on) for on in (False, True)
    )
    peak = measure(recomputing, device="cpu")
    prepared = peak.parts["next_batch"]  # the same with both
    assert peak.allocated - prepared < share * (measure(plain, device="cpu").allocated - prepared)
    assert predict(recomputing).allocated == pytest.approx(peak.allocated, rel=0.01)


@pytest.mark.parametrize("overlapping", [False, True])
@pytest.mark.parametrize("name", ["oss-net-a", "unet-3d"])
def test_predicted_is_measured_whatever_the_loss(name: str, overlapping: bool) -> None:
    config = configured(name, loss__dice_weight=1.0, loss__focal_weight=1.0, model__overlapping=overlapping)
    assert predict(config).allocated == pytest.approx(measure(config, device="cpu").allocated, rel=0.01)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "oss-net-c" else pytest.mark.slow) for name in PAPER_GB]
)
def test_native_size_in_seconds_and_below_the_paper(name: str) -> None:
    """BraTS at 256 x 256 x 160, one volume, 2^14 points: no tensor of that size is ever made."""
    config = Config(model=network_config(name, dataset="brats")).replace(
        {"sampling.working_shape": [256, 256, 160], "training.batch_size": 1}
    )
    peak = predict(config)
    assert peak.device == "cpu (fake)"
    assert sum(peak.parts.values()) == peak.allocated
    points, image = 2**14, 4 * 128 * 128 * 80 * 4
    model = config.model
    assert isinstance(model, OccupancyConfig)
    patches = model.in_channels * (2 * model.local_patch + 4 * model.mid_range_patch) * 343 * points
    targets = points * (3 * 4 + 8) + 8 * 8 * 5 * 4
    assert peak.parts["batch"] == pytest.approx(image + patches + targets, rel=1e-3)
    count = sum(weight.numel() for weight in _parameters(config) if weight.requires_grad)
    assert peak.parts["parameters"] == pytest.approx(4 * count, rel=0.05)  # and buffers
    assert peak.parts["optimizer_state"] == pytest.approx(
        3 * 4 * count, rel=0.05
    )  # two moments, slow weights
    assert peak.allocated / 1e9 < PAPER_GB[name]


def _parameters(config: Config) -> list[torch.nn.Parameter]:
    from ossnet.models import network_from_config

    with torch.device("meta"):
        return list(network_from_config(config.model).parameters())


class Silent:
    """A run's reporter that ignores everything."""

    def step(self, metrics: dict[str, float], step: int) -> None:
        """Nothing."""

    def epoch(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        """Nothing."""


def small_run(name: str, store: Store, **changes: Any) -> Config:
    """One epoch of two steps of a small network on a store."""
    small: dict[str, Any] = {"channels": (4, 8)} if "unet" in name else SMALL | {"patch_edge": 3}
    dotted = {path.replace("__", "."): value for path, value in changes.items()}
    limits = {"sampling.points": 200, "training.epochs": 1, "training.batch_size": 4}
    model = {f"model.{field}": value for field, value in small.items()}
    return Config.preset(name, store).replace(limits | model | dotted)


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("name", ["oss-net-d", "unet-3d", "unet-2d"])
def test_runs_log_what_is_measured_and_predicted(name: str, regions: bool, phantom_store: Path) -> None:
    store = Store.open(phantom_store)
    if regions:
        task = replace(store.task, regions=choose_regions("brats-regions", (), store.task.labels))
        store = Store(store.root, replace(store.manifest, task=task))
    fraction = 0.3 if name == "oss-net-d" else 0.0
    config = small_run(name, store, sampling__uncertain_fraction=fraction)
    logged = run_training(config, store, reporter=Silent(), device="cpu")["memory/peak_allocated_gib"]
    settled = config.resolve_for(store)
    assert measure(settled, device="cpu").allocated_gib == pytest.approx(logged, rel=0.01)
    assert predict(settled).allocated_gib == pytest.approx(logged, rel=0.01)


def test_workers_share_the_batch() -> None:
    config = configured("oss-net-c", training__batch_size=4)
    whole, half = predict(config), predict(config, workers=2)
    alone = predict(config.replace({"training.batch_size": 2}))
    assert 0 <= half.allocated - alone.allocated <= half.parts["gradients"]  # which stay between steps
    assert half.parts["batch"] < whole.parts["batch"]
    assert half.parts["parameters"] == whole.parts["parameters"]
    assert PeakEstimator(2, 4).gib(config) == half.allocated_gib  # however many more they become


@pytest.mark.parametrize(("name", "parts"), [("oss-net-d", 4), ("unet-3d", 2)])
def test_accumulation_takes_the_memory_of_a_part(name: str, parts: int, phantom_store: Path) -> None:
    """As measured in a run, and between that of a batch of one part's size and the whole batch's."""
    store = Store.open(phantom_store)
    whole = small_run(name, store)
    split = whole.replace({"training.accumulation_steps": parts})
    logged = run_training(split, store, reporter=Silent(), device="cpu")["memory/peak_allocated_gib"]
    predicted = predict(split.resolve_for(store)).allocated_gib
    assert predicted == pytest.approx(logged, rel=0.01)
    assert measure(split.resolve_for(store), device="cpu").allocated_gib == pytest.approx(logged, rel=0.01)
    part = whole.replace({"training.batch_size": 4 // parts}).resolve_for(store)
    assert predict(part).allocated_gib <= predicted < predict(whole.resolve_for(store)).allocated_gib


@given(batch=st.integers(1, 12), parts=st.integers(1, 12), fewest=st.integers(1, 12), more=st.integers(0, 11))
def test_the_neediest_number_of_workers_has_the_largest_parts(
    batch: int, parts: int, fewest: int, more: int
) -> None:
    steps, fewest = min(parts, batch), min(fewest, batch)
    most = min(fewest + more, batch)
    config = configured("unet-3d", training__batch_size=batch, training__accumulation_steps=steps)
    found = neediest(config, fewest, most)
    largest = {
        each: largest_part(steps, batch_size=batch, world_size=each) for each in range(fewest, most + 1)
    }
    assert largest[found] == max(largest.values())
    if steps == 1:
        assert largest[found] == -(-batch // fewest)  # the share of the fewest


def test_measuring_leaves_the_random_state() -> None:
    before = torch.get_rng_state()
    measure(configured("oss-net-a"), device="cpu")
    predict(configured("oss-net-a"))
    assert torch.equal(torch.get_rng_state(), before)


def test_needs_a_working_shape() -> None:
    with pytest.raises(UserError, match="working_shape"):
        predict(Config(model=network_config("oss-net-c")))


@pytest.mark.slow
def test_native_size_measured() -> None:
    config = Config(model=network_config("oss-net-c", dataset="brats")).replace(
        {"sampling.working_shape": [256, 256, 160], "training.batch_size": 1}
    )
    assert measure(config, device="cpu").allocated == pytest.approx(predict(config).allocated, rel=0.01)


def test_volumes_that_stay_on_the_device_are_counted() -> None:
    config = Config.preset("feature-query").replace(
        {"sampling.working_shape": [64, 64, 64], "sampling.points": 64, "training.batch_size": 1}
    )
    kept = predict(config.replace({"training.device_cache_gib": 0.5}))
    assert kept.allocated - predict(config).allocated == 2**29
    assert kept.parts["device_cache"] == 2**29


def test_the_next_batch_and_the_volume_it_is_drawn_from_are_counted() -> None:
    config = configured("oss-net-d", training__batch_size=4)
    parts = predict(config).parts
    drawing = drawing_bytes(config.model, config.sampling, config.augmentation)
    assert parts["next_batch"] == pytest.approx(parts["batch"] + drawing, rel=1e-3)
    quiet = predict(config.replace({"augmentation.noise": 0.0}))
    assert parts["next_batch"] - quiet.parts["next_batch"] == 2**24


@pytest.mark.parametrize(("volumes", "most_gb"), [(1, 1.11), (8, 0.9 * 7.86)])
def test_oss_net_c_with_all_that_is_made_beside_its_step(volumes: int, most_gb: float) -> None:
    config = Config(model=network_config("oss-net-c", dataset="brats")).replace(
        {"sampling.working_shape": [256, 256, 160], "training.batch_size": volumes}
    )
    assert predict(config).allocated <= most_gb * 1e9
