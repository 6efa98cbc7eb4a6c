"""What `auto` chooses, that what is given stays, and what is saved until a budget is met."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ossnet.commands._parse import Command, parse_with_config
from ossnet.commands.train import TrainOptions
from ossnet.config import Config
from ossnet.data import Store
from ossnet.data.store.dataset_info import BRATS
from ossnet.errors import UserError
from ossnet.models import PRESETS, OccupancyConfig
from ossnet.models.configs import LevelsConfig
from ossnet.planning.configure.fingerprint import Fingerprint
from ossnet.planning.configure.planner import Planner, Resolved, check_auto
from ossnet.planning.configure.recipe import AUTO_PATHS, RULES, Device
from ossnet.planning.configure.savings import SAVINGS

HIPPOCAMPUS = Fingerprint(
    root=Path("hippocampus"),
    task=replace(BRATS.task, modalities=("MRI",), labels={"anterior": 1, "posterior": 2}),
    max_shape=(43, 59, 47),
    median_shape=(35, 50, 36),
    storage="float16",
    training_cases=160,
    spacing=(1.0, 1.0, 1.0),
    class_fractions=(0.027, 0.025),
)
BRAIN = replace(Fingerprint.of(BRATS), training_cases=100)


class ByFormula:
    """A peak that falls with every saving, without tracing a network."""

    def __init__(self) -> None:
        self.queries = 0

    def gib(self, config: Config) -> float:
        """Volumes of a part times their places, the network's widths squared."""
        self.queries += 1
        model, training, sampling = config.model, config.training, config.sampling
        volumes = math.ceil(training.batch_size / training.accumulation_steps)
        kept = 0.6 if getattr(model, "checkpoint_activations", False) else 1.0
        if isinstance(model, OccupancyConfig):
            weights = model.decoder_width**2 + sum(width**2 for width in model.encoder_channels)
            return (weights + volumes * sampling.points * model.decoder_width * kept) * 1e-8
        assert isinstance(model, LevelsConfig)
        voxels = math.prod(sampling.crop_shape or sampling.working_shape or (1,))
        return (
            sum(width**2 for width in model.channels) + volumes * voxels * model.channels[0] * kept
        ) * 1e-8


def planner(dataset: Fingerprint = HIPPOCAMPUS, **fields: Any) -> Planner:
    return Planner(**{"dataset": dataset, "estimator": ByFormula(), **fields})


def test_the_recipe_for_small_scans_on_a_cpu() -> None:
    config = planner(network="oss-net-d").resolve().config
    assert isinstance(config.model, OccupancyConfig)
    assert (config.model.decoder_width, config.model.decoder_blocks, config.model.patch_edge) == (128, 3, 5)
    assert config.model.coordinates == "normalized"
    sampling = config.sampling
    assert (sampling.points, sampling.border_fraction) == (2048, 0.5)
    assert (sampling.border_width, sampling.border_unit) == (3.0, "voxels")
    optimizer = config.optimizer
    assert (optimizer.name, optimizer.schedule) == ("adamw", "cosine")
    assert optimizer.learning_rate == optimizer.pade_learning_rate == 2e-3
    assert config.loss.dice_weight == 1
    assert config.training.batch_size == 8


@pytest.mark.parametrize("name", ["feature-query", "feature-query-patch", "feature-pyramid"])
def test_a_lean_decoder_for_queried_features_on_a_cpu(name: str) -> None:
    config = planner(network=name).resolve().config
    assert isinstance(config.model, OccupancyConfig)
    assert (config.model.decoder_width, config.model.decoder_blocks) == (64, 2)
    assert config.model.patch_edge == (3 if config.model.patch_channels else 7)
    assert (config.sampling.border_fraction, config.optimizer.learning_rate) == (0.8, 3e-3)
    assert config.optimizer.pade_learning_rate == 3e-3
    on_gpu = planner(network=name, device=Device("cuda")).resolve().config
    assert isinstance(on_gpu.model, OccupancyConfig)
    assert on_gpu.model.decoder_width > 64
    assert (on_gpu.sampling.border_fraction, on_gpu.optimizer.learning_rate) == (0.5, 2e-3)


def test_a_gpu_gets_the_preset_s_own_size_and_half_precision() -> None:
    config = planner(network="oss-net-c", device=Device("cuda", bf16=True)).resolve().config
    assert isinstance(config.model, OccupancyConfig)
    assert (config.model.decoder_width, config.model.decoder_blocks, config.model.patch_edge) == (512, 5, 7)
    assert config.training.precision == "bf16"


def test_u_nets_see_crops_of_large_volumes_on_a_cpu() -> None:
    def cropped(dataset: Fingerprint, network: str, device: str = "cpu", **given: Any) -> Any:
        chosen = planner(dataset, network=network, device=Device(device), given=given).resolve()
        return chosen.config.sampling.crop_shape

    flat = replace(BRAIN, max_shape=(128, 100, 30))
    for network in ("unet-3d", "residual-encoder-unet"):
        assert cropped(BRAIN, network) == (64, 64, 64)
        assert cropped(flat, network) == (64, 64, 32)
        assert cropped(HIPPOCAMPUS, network) is None
        assert cropped(BRAIN, network, "cuda") is None
        assert cropped(BRAIN, network, **{"sampling.crop_shape": [96, 96, 96]}) == (96, 96, 96)
    assert cropped(BRAIN, "unet-3d", **{"model.channels": [8] * 7}) == (128, 128, 128)  # twice 2^6
    assert cropped(BRAIN, "unet-2d") is cropped(BRAIN, "oss-net-c") is None


def test_points_follow_the_size_of_the_scans() -> None:
    assert planner(BRAIN).resolve().config.sampling.points == 2**14
    tiny = replace(HIPPOCAMPUS, median_shape=(8, 8, 8))
    assert planner(tiny).resolve().config.sampling.points == 2**10


def test_a_rare_class_gets_points_of_its_own() -> None:
    rare = replace(HIPPOCAMPUS, class_fractions=(0.1, 1e-5))
    sampling = planner(rare).resolve().config.sampling
    assert sampling.foreground_fraction == 0.25
    sampling = planner(rare, given={"sampling.border_fraction": 0.9}).resolve().config.sampling
    assert sampling.border_fraction + sampling.foreground_fraction == pytest.approx(1)


@pytest.mark.parametrize(("cases", "workers", "batch"), [(160, 1, 8), (3, 1, 3), (160, 3, 6), (5, 2, 4)])
def test_the_batch_suits_cases_and_workers(cases: int, workers: int, batch: int) -> None:
    dataset = replace(HIPPOCAMPUS, training_cases=cases)
    found = planner(dataset, workers=workers, network="oss-net-c").resolve()
    assert found.config.training.batch_size == batch


@pytest.mark.parametrize(("fewest", "most", "batch"), [(1, 8, 8), (2, 3, 6), (1, 2, 8)])
def test_the_batch_has_a_volume_for_each_of_the_most_workers(fewest: int, most: int, batch: int) -> None:
    options = {"workers": fewest, "most_workers": most}
    found = planner(replace(HIPPOCAMPUS, training_cases=160), network="oss-net-c", **options).resolve()
    assert found.config.training.batch_size == batch


@pytest.mark.parametrize(
    ("name", "volumes"), [("unet-3d", 2), ("feature-pyramid", 2), ("feature-query", 2), ("oss-net-c", 8)]
)
def test_few_volumes_a_step_on_a_cpu_where_that_was_measured(name: str, volumes: int) -> None:
    assert planner(network=name).resolve().config.training.batch_size == volumes
    on_gpu = planner(network=name, device=Device("cuda")).resolve()
    assert on_gpu.config.training.batch_size == 8


@pytest.mark.parametrize(("points", "volumes"), [(2**12, 8), (2**13, 4), (2**14, 2), (2**16, 1)])
def test_a_step_on_a_cpu_has_so_many_points_at_most(points: int, volumes: int) -> None:
    given = {"sampling.points": points}
    assert planner(network="oss-net-c", given=given).resolve().config.training.batch_size == volumes
    on_gpu = planner(network="oss-net-c", given=given, device=Device("cuda")).resolve()
    assert on_gpu.config.training.batch_size == 8


def test_the_strong_baseline_is_narrower_on_a_cpu_and_has_its_schedule() -> None:
    found = {
        kind: planner(network="residual-encoder-unet", device=Device(kind)).resolve()
        for kind in ("cpu", "cuda")
    }
    widths = {kind: each.config.flatten()["model.channels"] for kind, each in found.items()}
    assert widths == {"cpu": [16, 32, 64, 128, 160], "cuda": [32, 64, 128, 256, 320]}
    assert found["cpu"].config.optimizer.schedule == "polynomial"
    assert found["cpu"].config.loss.dice_weight == 1
    fitted = planner(network="residual-encoder-unet", budget_gib=0.01).resolve()
    assert fitted.fits
    assert fitted.saved


def test_a_feature_pyramid_sees_small_scans_at_full_resolution() -> None:
    model = planner(network="feature-pyramid").resolve().config.model
    assert isinstance(model, OccupancyConfig)
    assert (model.encoder_downscale, model.encoder_channels) == (1, (8, 16, 32, 64))
    assert (model.pyramid_channels, model.latent_grid) == (16, (3, 4, 3))


@pytest.mark.parametrize("name", list(PRESETS))
def test_the_paper_s_recipe_is_the_preset_to_the_letter(name: str, phantom_store: Path) -> None:
    store = Store.open(phantom_store)
    resolved = Planner(dataset=Fingerprint.of(store), network=name, recipe="paper").resolve()
    assert resolved.config == Config.preset(name, store).resolve_for(store)
    assert not resolved.choices


VALUES: dict[str, Any] = {
    "model.decoder_width": 96,
    "model.patch_edge": 9,
    "model.coordinates": "voxel",
    "model.encoder_channels": [8, 16],
    "sampling.points": 777,
    "sampling.border_fraction": 0.9,
    "sampling.border_width": 2.0,
    "training.batch_size": 6,
    "training.accumulation_steps": 2,
    "training.epochs": 7,
    "optimizer.name": "lookahead-radam",
    "optimizer.learning_rate": 1e-4,
    "loss.dice_weight": 0.0,
}


@given(
    paths=st.sets(st.sampled_from(sorted(VALUES))),
    budget_gib=st.sampled_from([None, 1e-4, 1e-3, 1e-2, 1.0]),
    in_space=st.booleans(),
)
def test_what_is_given_is_never_touched(paths: set[str], budget_gib: float | None, in_space: bool) -> None:
    values = {path: VALUES[path] for path in paths}
    resolved = planner(budget_gib=budget_gib, given={} if in_space else values).resolve(
        "oss-net-c", values if in_space else {}
    )
    flat = resolved.config.flatten()
    assert {path: flat[path] for path in paths} == values
    assert not paths & {choice.path for choice in (*resolved.choices, *resolved.saved)}


def test_rows_follow_what_is_given_above_them() -> None:
    rate = planner(given={"optimizer.learning_rate": 1e-4}).resolve().config.optimizer
    assert rate.pade_learning_rate == 1e-4
    width = planner(given={"sampling.border_width": 6.0}).resolve().config.sampling
    assert width.border_unit == "mm"  # as --help says of a width
    assert planner(given={"training.epochs": 200}).resolve().config.training.validate_every == 20


@pytest.mark.parametrize("name", ["oss-net-c", "unet-3d"])
def test_savings_are_taken_one_after_another(name: str) -> None:
    """The smaller the budget, the more is saved; what is chosen fits, and takes few predictions to find."""
    given = {"training.batch_size": 8}
    whole = planner(network=name, budget_gib=1e9, given=given).resolve()
    assert whole.fits
    assert not whole.saved
    assert whole.peak_gib is not None
    for share in (0.6, 0.2, 0.05, 0.01):
        estimator = ByFormula()
        budget_gib = whole.peak_gib * share
        found = planner(network=name, budget_gib=budget_gib, given=given, estimator=estimator).resolve()
        assert found.fits
        assert found.peak_gib == ByFormula().gib(found.config)
        assert "training.accumulation_steps" in {choice.path for choice in found.saved}
        assert found.config.training.batch_size == 8
        assert estimator.queries < 16


@pytest.mark.parametrize("name", ["oss-net-c", "feature-query", "unet-3d", "unet-2d"])
@settings(max_examples=30)
@given(
    levels=st.integers(2, 7), batch=st.integers(1, 9), parts=st.integers(1, 4), width=st.sampled_from([8, 16])
)
def test_no_saving_leaves_a_single_value_to_normalize_by(
    name: str, levels: int, batch: int, parts: int, width: int
) -> None:
    field = "encoder_channels" if name in ("oss-net-c", "feature-query") else "channels"
    changes = {
        f"model.{field}": tuple(width for _ in range(levels)),
        "training.batch_size": batch,
        "training.accumulation_steps": min(parts, batch),
    }
    planner = Planner(HIPPOCAMPUS, budget_gib=0.0, given=changes, estimator=ByFormula())
    try:
        found = planner.resolve(name).config
    except UserError as error:
        message = str(error)
        assert f"model.{field}: expected two voxels or more at the coarsest level" in message
        found = planner.resolve(name, changes={f"model.{field}": (width, width)}).config
    assert not found.is_too_deep


def test_a_network_too_deep_for_its_volumes_is_one_line() -> None:
    deep = {"model.encoder_channels": (8, 8, 8, 8, 8), "model.encoder_downscale": 4}
    at_once = Planner(HIPPOCAMPUS, given=deep | {"training.batch_size": 2}).resolve("oss-net-c").config
    assert at_once.sampling.working_shape == (128, 128, 128)
    assert not at_once.is_too_deep
    one = at_once.replace({"training.accumulation_steps": 2})
    assert one.is_too_deep
    assert not one.replace({"model.encoder_downscale": 2}).is_too_deep
    with pytest.raises(
        UserError, match=r"one, of a volume of \(128, 128, 128\); leave out a level, or pass more"
    ):
        one.resolve_for(HIPPOCAMPUS)


def test_a_saving_that_a_later_one_makes_needless_is_given_back() -> None:
    widths_only = planner(network="oss-net-c", given={"model.decoder_width": 4096}).resolve().config
    weights = ByFormula().gib(widths_only.replace({"sampling.points": 1, "training.batch_size": 1}))
    found = planner(network="oss-net-c", budget_gib=weights / 16).resolve()
    assert found.fits
    for path in {choice.path for choice in found.saved[:-1]}:
        before = planner(network="oss-net-c").resolve().config.flatten()[path]
        assert ByFormula().gib(found.config.replace({path: before})) > weights / 16


def test_a_budget_that_nothing_meets_is_one_line_with_what_would_do() -> None:
    with pytest.raises(UserError) as rejected:
        planner(network="oss-net-c", budget_gib=1e-9).resolve().require_fit()
    message = str(rejected.value)
    assert "--memory-budget: expected at least" in message
    assert "\n" not in message
    least = float(message.split("at least ")[1].split()[0])
    assert planner(network="oss-net-c", budget_gib=least).resolve().fits


def test_the_given_field_that_keeps_a_budget_from_being_met_is_named() -> None:
    wide = {"model.decoder_width": 4096, "loss.dice_weight": 0.5}
    with pytest.raises(UserError, match=r"leave out model\.decoder_width, which is given as 4096"):
        planner(network="oss-net-c", budget_gib=0.01, given=wide).resolve().require_fit()


def test_a_multiple_is_of_what_would_have_been_chosen() -> None:
    changes = {"model": "oss-net-c", "model.decoder_width": "x2", "sampling.points": "x0.5"}
    config = planner().resolve(changes=changes).config
    assert isinstance(config.model, OccupancyConfig)
    assert (config.model.decoder_width, config.sampling.points) == (256, 1024)
    channels = planner().resolve(changes={"model": "unet-3d", "model.channels": "x0.5"}).config.flatten()
    assert channels["model.channels"] == [8, 16, 32, 64, 128]


def test_memory_may_lower_a_multiple_of_points_but_not_of_widths() -> None:
    changes = {"model.decoder_width": "x2", "sampling.points": "x2"}
    tight = ByFormula().gib(planner().resolve(changes=changes).config) / 20
    config = planner(budget_gib=tight).resolve(changes=changes)
    assert config.fits
    assert config.config.flatten()["model.decoder_width"] == 256
    assert config.config.sampling.points < 4096


def test_once_what_would_have_been_chosen_is_fitted_as_if_nothing_were_asked() -> None:
    free = planner(network="unet-3d", budget_gib=1e-3)
    chosen = free.resolve()
    assert chosen.fits
    assert chosen.config.flatten()["model.channels"][0] < 16
    assert free.resolve(changes={"model.channels": "x1"}).config == chosen.config
    assert not free.resolve(changes={"model.channels": "x2"}).fits


@pytest.mark.parametrize("name", ["oss-net-d", "feature-query", "unet-3d"])
def test_the_printed_options_give_the_configuration_again(name: str, phantom_store: Path) -> None:
    dataset = Fingerprint.of(Store.open(phantom_store))
    resolved = Planner(
        dataset=dataset, network=name, given={"loss.dice_weight": 0.5}, budget_gib=0.01, estimator=ByFormula()
    ).resolve()
    command = Command("train", "", TrainOptions, configurable=True)
    options, dotted = parse_with_config(
        command, resolved.options().split(), lambda model, _: Config.preset(model, dataset)
    )
    again = Planner(
        dataset=dataset, network=options.model, recipe=options.recipe, given=dotted.given
    ).resolve()
    assert again.config == resolved.config


def test_what_was_resolved_is_short_and_whole() -> None:
    resolved = planner(network="oss-net-d", budget_gib=0.02).resolve()
    lines = resolved.lines()
    assert len(lines) <= 15
    values = {row["path"]: row["value"] for row in resolved.to_dict()["choices"]}
    flat = resolved.config.flatten()
    assert values == {path: flat[path] for path in values}
    assert values.keys() >= {"sampling.points", "model.decoder_width", "optimizer.learning_rate"}
    json.dumps(resolved.to_dict())
    assert any("accumulation steps 1 -> " in line for line in lines)


@pytest.mark.parametrize(
    ("paths", "values", "recipe", "words"),
    [
        (["sampling.points"], {"sampling.points": 9}, "auto", "--sampling.points auto: expected one value"),
        (["sampling.points"], {}, "paper", "--sampling.points auto: expected --recipe auto"),
    ],
)
def test_auto_beside_what_contradicts_it(
    paths: list[str], values: dict[str, Any], recipe: Any, words: str
) -> None:
    check_auto(["sampling.points"], {}, "auto")
    with pytest.raises(UserError, match=words):
        check_auto(paths, values, recipe)


def test_every_row_is_a_field_of_some_network() -> None:
    known = {path for name in PRESETS for path in Config.preset(name).flatten()}
    assert known >= AUTO_PATHS
    assert known >= {saving.path for saving in SAVINGS}
    assert len(AUTO_PATHS) == len(RULES)


def test_a_configuration_kept_as_it_is(phantom_store: Path) -> None:
    dataset = Fingerprint.of(Store.open(phantom_store))
    config = Config.preset("oss-net-c", dataset).replace(
        {"model.decoder_width": 16, "training.batch_size": 4, "optimizer.name": "adamw"}
    )
    kept = Planner.around(config, dataset)
    assert kept.resolve().config == config.resolve_for(dataset)
    assert kept.base == config.resolve_for(dataset)
    other: Resolved = kept.resolve(changes={"model": "unet-3d"})
    assert other.config.training == config.training
