"""Whole runs in plain torch: they learn, they stop and continue, and two ranks are one."""

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, multiprocessing

from ossnet.config import Config
from ossnet.data import Store
from ossnet.data.labels.presets import choose_regions
from ossnet.errors import UserError
from ossnet.inference import Predictor
from ossnet.memory.peak import GIB
from ossnet.planning import measure, predict
from ossnet.training.checkpoint import load_state
from ossnet.training.checkpoint_files import Interim
from ossnet.training.reporting import RunOrigin
from ossnet.training_run import run_training

SMALL: dict[str, Any] = {
    "model.encoder_channels": [4, 8],
    "model.decoder_width": 16,
    "model.decoder_blocks": 2,
    "model.latent_grid": [2, 2, 2],
    "model.patch_edge": 3,
    "model.coordinates": "normalized",
    "sampling.points": 256,
    "sampling.border_fraction": 0.5,
    "training.batch_size": 4,
    "training.epochs": 3,
    "training.validate_every": 1,
}


class Recorder:
    """Keeps what a run reports, and its last checkpoint."""

    def __init__(self, folder: Path, *, stop_after: int | None = None) -> None:
        self.folder, self.stop_after = folder, stop_after
        self.losses: dict[int, float] = {}
        self.epochs: list[dict[str, float]] = []
        self.expected: dict[str, float] = {}

    def step(self, metrics: dict[str, float], step: int) -> None:
        self.losses[step] = metrics["loss/train"]
        self.expected |= {name: value for name, value in metrics.items() if name.startswith("expected/")}

    def epoch(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        self.epochs.append(metrics)
        if checkpoint is not None:
            shutil.copytree(checkpoint, self.folder, dirs_exist_ok=True)
        if self.stop_after == len(self.epochs):
            raise KeyboardInterrupt


def configured(store: Store, name: str = "oss-net-d", changes: Mapping[str, Any] = {}) -> Config:
    small = (
        {key: value for key, value in SMALL.items() if not key.startswith("model.")}
        | {"model.channels": [4, 4, 8, 8] if name == "residual-encoder-unet" else [4, 8]}
        if "unet" in name
        else SMALL
    )
    return Config.preset(name, store).replace({**small, **changes})


def train(config: Config, store: Store, recorder: Recorder, **more: Any) -> dict[str, float]:
    """Train on the CPU, with a small peak as predicted: tests of planning show what is predicted."""
    return run_training(config, store, reporter=recorder, device="cpu", predicted_gib=0.01, **more)


@pytest.mark.parametrize(
    "name",
    ["o-net", "oss-net-a", "oss-net-d", "feature-query", "unet-3d", "unet-2d", "residual-encoder-unet"],
)
def test_every_kind_of_network_trains_validates_and_leaves_a_checkpoint(
    name: str, phantom_store: Path, tmp_path: Path
) -> None:
    store = Store.open(phantom_store)
    recorder = Recorder(tmp_path / "checkpoint")
    metrics = run_training(configured(store, name), store, reporter=recorder, device="cpu")
    assert sorted(recorder.losses) == list(range(1, 7))
    assert [epoch["epoch"] for epoch in recorder.epochs] == [1, 2, 3]
    assert [epoch["final"] for epoch in recorder.epochs] == [0, 0, 1]
    assert 0 <= metrics["dice/val"] <= 1
    assert metrics["dice/val"] == pytest.approx(
        sum(metrics[f"dice/val/{name}"] for name in store.task.labels) / store.task.classes
    )
    assert metrics["memory/peak_allocated_gib"] > 0
    assert 0 <= metrics["time/data_wait_fraction"] <= 1
    names = {file.name for file in (tmp_path / "checkpoint").iterdir()}
    assert names == {"config.json", "task.json", "data.json", "model.safetensors", "state.pt", "version.json"}
    saved = Config.from_json(tmp_path / "checkpoint" / "config.json")
    assert saved.sampling.working_shape is not None
    assert json.loads((tmp_path / "checkpoint" / "task.json").read_text())["modalities"]


def test_a_run_draws_its_validation_and_its_checkpoint_says_where_it_is_tracked(
    phantom_store: Path, tmp_path: Path
) -> None:
    store, drawn = Store.open(phantom_store), list[Mapping[str, bytes]]()
    origin = RunOrigin("the-id", "sqlite:///mlflow.db", "mine")
    config, recorder = configured(store, changes={"training.epochs": 1}), Recorder(tmp_path / "checkpoint")
    train(config, store, recorder, origin=origin, pictures=drawn.append)
    assert [tuple(each) for each in drawn] == [store.split("validation")]
    assert all(png.startswith(b"\x89PNG") for png in drawn[0].values())
    assert RunOrigin.read(tmp_path / "checkpoint") == origin


@pytest.mark.parametrize("name", ["oss-net-d", "unet-3d", "unet-2d"])
def test_regions_that_overlap_are_learnt(name: str, phantom_store: Path, tmp_path: Path) -> None:
    plain = Store.open(phantom_store)
    task = replace(plain.task, regions=choose_regions("brats-regions", (), plain.task.labels))
    store = Store(plain.root, replace(plain.manifest, task=task))
    changes = {"training.epochs": 8, "optimizer.name": "adamw", "optimizer.learning_rate": 5e-3}
    recorder = Recorder(tmp_path / "checkpoint")
    metrics = train(configured(store, name, changes), store, recorder)
    assert recorder.losses[16] < 0.8 * recorder.losses[1]
    dice = [metrics[f"dice/val/{region}"] for region in ("WT", "TC", "ET")]
    assert metrics["dice/val"] == pytest.approx(sum(dice) / 3)
    assert not any(f"dice/val/{label}" in metrics for label in store.task.labels)
    predictor = Predictor.from_checkpoint(tmp_path / "checkpoint", device="cpu")
    assert predictor.task == task


@pytest.mark.parametrize(("name", "crop"), [("unet-3d", [16, 16, 12]), ("unet-2d", [16, 20, 1])])
def test_recomputing_on_crops_trains_and_validates_the_same_with_less_memory(
    name: str, crop: list[int], phantom_store: Path, tmp_path: Path
) -> None:
    """Validation sees the volume through windows of the crops' size."""
    store = Store.open(phantom_store)
    plain, recomputing = Recorder(tmp_path / "plain"), Recorder(tmp_path / "recomputing")
    common = {"sampling.crop_shape": crop, "training.epochs": 2, "model.channels": [8, 16, 32]}
    configs = [
        configured(store, name, {**common, "model.checkpoint_activations": on}) for on in (False, True)
    ]
    expected, found = (
        train(config, store, recorder) for config, recorder in zip(configs, (plain, recomputing), strict=True)
    )
    assert recomputing.losses == plain.losses
    assert found["dice/val"] == expected["dice/val"]
    prepared = predict(configs[0].resolve_for(store)).parts["next_batch"] / GIB  # the same with both
    before, after = (each["memory/peak_allocated_gib"] - prepared for each in (expected, found))
    assert after < 0.8 * before


def test_training_learns_to_find_the_tumour(phantom_store: Path, tmp_path: Path) -> None:
    store = Store.open(phantom_store)
    changes = {
        "optimizer.name": "adamw",
        "optimizer.learning_rate": 2e-2,
        "model.decoder_width": 32,
        "optimizer.schedule": "cosine",
        "training.epochs": 16,
        "training.validate_every": 16,
        "augmentation.probability": 0.0,
    }
    recorder = Recorder(tmp_path / "checkpoint")
    metrics = train(configured(store, changes=changes), store, recorder)
    assert recorder.losses[32] < 0.4 * recorder.losses[1]
    assert metrics["dice/val"] > 0.3


@pytest.mark.chaos("a training lost within an epoch")
def test_a_run_that_is_lost_within_an_epoch_continues_within_it(phantom_store: Path, tmp_path: Path) -> None:
    """Two steps an epoch: the third one is in the middle of the second."""
    store = Store.open(phantom_store)
    config = configured(store, "unet-3d", {"training.checkpoint_every": 3})
    straight = Recorder(tmp_path / "straight")
    expected = train(config, store, straight)

    class Lost(Recorder):
        def step(self, metrics: dict[str, float], step: int) -> None:
            super().step(metrics, step)
            if step == 4:
                raise KeyboardInterrupt

    interim = Interim(tmp_path / "interim", None, requested=lambda: True)
    lost = Lost(tmp_path / "lost")
    with pytest.raises(KeyboardInterrupt):
        train(config, store, lost, interim=interim, run="a")
    assert not lost.folder.exists()
    state = load_state(interim.folder)
    assert (state["progress"]["step"], state["progress"]["epoch"], state["run"]) == (3, 1, "a")
    resumed = Recorder(tmp_path / "resumed")
    found = train(config, store, resumed, resume_from=interim.folder)
    assert sorted(resumed.losses) == [4, 5, 6]
    assert resumed.losses == pytest.approx({step: straight.losses[step] for step in (4, 5, 6)}, rel=1e-6)
    assert found["dice/val"] == pytest.approx(expected["dice/val"], abs=1e-6)


def test_a_stopped_run_continues_as_if_never_stopped(phantom_store: Path, tmp_path: Path) -> None:
    store = Store.open(phantom_store)
    config = configured(store)
    straight = Recorder(tmp_path / "straight")
    expected = train(config, store, straight)
    stopped = Recorder(tmp_path / "stopped", stop_after=2)
    with pytest.raises(KeyboardInterrupt):
        train(config, store, stopped)
    resumed = Recorder(tmp_path / "resumed")
    found = train(config, store, resumed, resume_from=tmp_path / "stopped")
    assert sorted(resumed.losses) == [5, 6]
    assert resumed.losses[6] == pytest.approx(straight.losses[6], rel=1e-6)
    assert found["dice/val"] == pytest.approx(expected["dice/val"], abs=1e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_stopped_run_continues_on_cuda(precision: str, phantom_store: Path, tmp_path: Path) -> None:
    store = Store.open(phantom_store)
    config = configured(store, changes={"training.precision": precision})
    straight = Recorder(tmp_path / "straight")
    run_training(config, store, reporter=straight, device="cuda")
    stopped = Recorder(tmp_path / "stopped", stop_after=2)
    with pytest.raises(KeyboardInterrupt):
        run_training(config, store, reporter=stopped, device="cuda")
    resumed = Recorder(tmp_path / "resumed")
    run_training(config, store, reporter=resumed, device="cuda", resume_from=tmp_path / "stopped")
    assert sorted(resumed.losses) == [5, 6]
    for step in (5, 6):  # sums of gradients have no fixed order on CUDA
        assert resumed.losses[step] == pytest.approx(straight.losses[step], rel=1e-3)


def test_time_ends_a_run_after_any_step_in_time_to_validate_and_save(
    phantom_store: Path, tmp_path: Path
) -> None:
    store = Store.open(phantom_store)
    warm_up = configured(store, "unet-3d", {"training.epochs": 1})
    train(warm_up, store, Recorder(tmp_path / "warm"))
    changes = {"training.max_time_s": 8.0, "training.validate_every": 1, "training.epochs": 100_000}
    recorder = Recorder(tmp_path / "checkpoint")
    config = configured(store, "unet-3d", changes)
    metrics = train(config, store, recorder)
    assert 4 < metrics["time/elapsed_s"] < 13
    assert metrics["final"] == 1
    assert metrics["share"] == 1
    assert metrics["cut_short"] == 0
    assert metrics["validation/cases"] == len(store.split("validation"))
    validated = [each for each in recorder.epochs if "dice/val" in each]
    assert len(validated) <= 11
    assert [each["share"] for each in validated] == sorted(each["share"] for each in validated)
    assert metrics["step"] <= 4 or recorder.expected["expected/epochs"] > 0  # known after three steps
    progress = load_state(tmp_path / "checkpoint")["progress"]
    assert progress["step"] == max(recorder.losses) == metrics["step"]


def test_a_deadline_cuts_a_run_of_epochs_short(phantom_store: Path, tmp_path: Path) -> None:
    store = Store.open(phantom_store)
    changes = {"training.validate_every": 100_000, "training.epochs": 100_000}
    recorder = Recorder(tmp_path / "checkpoint")
    config = configured(store, "unet-3d", changes)
    metrics = train(config, store, recorder, deadline=time.time() + 5)
    assert (metrics["final"], metrics["cut_short"]) == (1, 1)
    assert "dice/val" in metrics


def test_a_run_stopped_within_an_epoch_continues_after_its_last_step(
    phantom_store: Path, tmp_path: Path
) -> None:
    store = Store.open(phantom_store)
    every_tenth = tuple(number / 6000 for number in range(1, 600))  # of a second: due once a case is measured
    changes = {"training.max_time_s": 600.0, "training.epochs": 2, "training.steps_per_batch": 6}
    changes |= {"training.validate_at": every_tenth, "optimizer.schedule": "constant"}
    stopped = Recorder(tmp_path / "stopped", stop_after=1)
    config = configured(store, "unet-3d", changes)
    with pytest.raises(KeyboardInterrupt):
        train(config, store, stopped)
    assert 0 < stopped.epochs[0]["epoch"] < 1
    resumed = Recorder(tmp_path / "resumed")
    config = config.replace({"training.validate_at": (0.5,)})
    train(config, store, resumed, resume_from=tmp_path / "stopped")
    assert min(resumed.losses) == max(stopped.losses) + 1
    straight = Recorder(tmp_path / "straight")
    epochs = {"training.max_time_s": None, "training.validate_every": 2}
    train(configured(store, "unet-3d", changes | epochs), store, straight)
    last = max(straight.losses)
    assert max(resumed.losses) == last == 24
    assert resumed.losses[last] == pytest.approx(straight.losses[last], rel=1e-5)


def test_a_time_too_short_for_a_step_is_refused_before_the_first(phantom_store: Path, tmp_path: Path) -> None:
    store = Store.open(phantom_store)
    large = {"sampling.points": 60_000, "model.decoder_width": 256, "training.max_time_s": 3.0}
    config, recorder = configured(store, changes=large), Recorder(tmp_path / "checkpoint")
    with pytest.raises(UserError, match=r"time limit of .*: expected time for one step .*; give at least"):
        train(config, store, recorder)
    assert not recorder.losses


def test_a_configuration_for_other_data_is_refused(phantom_store: Path, tmp_path: Path) -> None:
    store = Store.open(phantom_store)
    recorder = Recorder(tmp_path)
    for change, words in (
        ({"model.in_channels": 1}, "in_channels: expected .*, found 1"),
        ({"sampling.working_shape": [8, 8, 8]}, "working_shape"),
        ({"training.batch_size": 9}, "batch_size: .* found 9"),
    ):
        with pytest.raises(UserError, match=words):
            train(configured(store, changes=change), store, recorder)


TWO_EPOCHS = {"training.epochs": 2, "training.validate_every": 2}
RANKED = {
    "oss-net-d": TWO_EPOCHS | {"training.accumulation_steps": 1},
    "unet-3d": TWO_EPOCHS | {"training.accumulation_steps": 2},
    "oss-net-c": TWO_EPOCHS | {"training.batch_size": 3},  # two volumes, and one
}


def _rank(rank: int, folder: Path, store_path: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=2)
    store = Store.open(store_path)
    for name, changes in RANKED.items():
        recorder = Recorder(folder / name / f"checkpoint{rank}")
        train(configured(store, name, changes), store, recorder)
        (folder / f"{name}-{rank}.json").write_text(json.dumps([recorder.losses, recorder.epochs]))
    distributed.barrier()  # neither leaves while the other still talks to it
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def ranked(phantom_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what each of two ranks reported of every run in `RANKED`."""
    folder = tmp_path_factory.mktemp("ranks")
    multiprocessing.spawn(_rank, args=(folder, phantom_store), nprocs=2)
    return folder


@pytest.mark.parametrize("name", RANKED)
def test_two_ranks_train_as_one(name: str, ranked: Path, phantom_store: Path, tmp_path: Path) -> None:
    store = Store.open(phantom_store)
    config, alone = configured(store, name, RANKED[name]), Recorder(tmp_path / "alone")
    train(config, store, alone)
    losses, epochs = json.loads((ranked / f"{name}-0.json").read_text())
    assert json.loads((ranked / f"{name}-1.json").read_text())[0] == {}
    for step, loss in alone.losses.items():
        assert losses[str(step)] == pytest.approx(loss, abs=1e-4)
    assert epochs[-1]["dice/val"] == pytest.approx(alone.epochs[-1]["dice/val"], abs=0.02)
    peak_gib = epochs[-1]["memory/peak_allocated_gib"]  # with the gradients that the ranks exchange
    config = config.resolve_for(store)
    for peak in (measure(config, device="cpu", workers=2), predict(config, workers=2)):
        assert peak_gib == pytest.approx(peak.allocated_gib, rel=0.01)


def test_a_run_starts_from_another_ones_weights(phantom_store: Path, tmp_path: Path) -> None:
    """With a learning rate of almost nothing it validates as the run that it starts from ended."""
    store = Store.open(phantom_store)
    first = configured(store, "oss-net-c", {"training.epochs": 2, "optimizer.learning_rate": 1e-2})
    ended = train(first, store, Recorder(tmp_path / "first" / "checkpoint"))
    again = first.replace(
        {"training.initialize_from": str(tmp_path / "first"), "optimizer.learning_rate": 1e-12}
        | {"training.epochs": 1}
    )
    fresh = again.replace({"training.initialize_from": None})
    recorders = [Recorder(tmp_path / name) for name in ("again", "fresh")]
    for config, recorder in zip((again, fresh), recorders, strict=True):
        train(config, store, recorder)
    losses = [recorder.losses[1] for recorder in recorders]
    assert losses[0] < 0.8 * losses[1]
    assert losses[0] == pytest.approx(ended["loss/train_epoch"], rel=0.3)
    other = again.replace({"model.decoder_width": 24})
    with pytest.raises(UserError, match=r"model\.decoder_width: expected 16, as the network of"):
        train(other, store, Recorder(tmp_path / "other"))
