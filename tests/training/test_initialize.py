"""A network that starts from a trained one's weights: what it knew gives what it gave, by name."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ossnet.config import Config
from ossnet.data import Task
from ossnet.errors import UserError
from ossnet.models import NetworkConfig, OccupancyConfig, network_config, network_from_config
from ossnet.training.checkpoint import save_checkpoint
from ossnet.training.initialize import Initialization, TrainedNetwork

SMALL: dict[str, Any] = {
    "encoder_channels": (6, 8),
    "decoder_width": 16,
    "decoder_blocks": 2,
    "latent_grid": (2, 2, 2),
    "patch_edge": 3,
}
SHAPE = (16, 16, 16)


def task(modalities: str, classes: str, *, overlapping: bool = False) -> Task:
    labels = {name: value for value, name in enumerate(classes, 1)}
    return Task(tuple(modalities), labels, regions={name: (name,) for name in classes} if overlapping else {})


def model(name: str, of: Task, **fields: Any) -> NetworkConfig:
    sizes = {"channels": (6, 8)} if "unet" in name else SMALL
    in_task = {"in_channels": len(of.modalities), "classes": of.classes, "overlapping": of.overlapping}
    return network_config(name, **{**sizes, **in_task, **fields})


def trained(folder: Path, config: NetworkConfig, of: Task) -> nn.Module:
    """A network with weights and statistics of no meaning, saved as a run does."""
    torch.manual_seed(1)
    network = network_from_config(config).eval()
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and "num" not in name and "denominator" not in name:
            tensor.add_(0.1 * torch.rand_like(tensor))
    documents = {
        "config.json": Config(model=config).to_json(),
        "task.json": json.dumps(of.to_dict()),
    }
    save_checkpoint(folder / "checkpoint", network=network, documents=documents, state={})
    return network


def started(folder: Path, config: NetworkConfig, of: Task) -> tuple[nn.Module, Initialization]:
    torch.manual_seed(2)
    network = network_from_config(config).eval()
    initialization = Initialization.plan(TrainedNetwork.read(folder), config, of)
    initialization.apply(network)
    return network, initialization


def image_of(of: Task, modalities: str = "TFDX") -> Tensor:
    """Random volumes by modality, equal for equal names."""
    generator = torch.Generator().manual_seed(3)
    volumes = {name: torch.randn(SHAPE, generator=generator) for name in modalities}
    return torch.stack([volumes[name] for name in of.modalities])[None]


@torch.no_grad()
def logits(network: nn.Module, of: Task) -> dict[str, Tensor]:
    """Logits by class, with the background where it has one, and the auxiliary head's."""
    image, config = image_of(of), network.config
    assert isinstance(config, NetworkConfig)
    names = [*of.labels] if config.logits == config.classes else ["background", *of.labels]
    if not isinstance(config, OccupancyConfig):
        if config.spatial_dims == 2:  # type: ignore[attr-defined]
            image = image[..., 8]
        return dict(zip(names, network(image)[0], strict=True))
    kinds, points = config.local_patch + config.mid_range_patch, 32
    generator = torch.Generator().manual_seed(4)
    each = {name: torch.randn(points, kinds, 3, 3, 3, generator=generator) for name in "TFDX"}
    patches = torch.cat([torch.stack([each[m][:, k] for m in of.modalities], 1) for k in range(kinds)], 1)
    coordinates = torch.rand(1, points, 3, generator=generator) * 2 - 1
    downscaled = nn.functional.avg_pool3d(image, config.encoder_downscale)
    found = network(downscaled, coordinates, patches[None], SHAPE)
    coarse = {f"coarse {name}": each for name, each in zip(of.labels, found.auxiliary[0], strict=True)}
    return dict(zip(names, found.logits[0].T, strict=True)) | coarse


NAMES = ("oss-net-c", "oss-net-d", "unet-3d", "unet-2d")


@pytest.mark.parametrize("name", NAMES)
def test_the_same_task_gives_the_same_outputs(name: str, tmp_path: Path) -> None:
    of = task("TF", "ab")
    before = trained(tmp_path, model(name, of), of)
    after, plan = started(tmp_path, model(name, of), of)
    assert (len(plan.mapped), len(plan.fresh), len(plan.kept)) == (0, 0, len(before.state_dict()))
    for class_name, expected in logits(before, of).items():
        torch.testing.assert_close(logits(after, of)[class_name], expected, rtol=0, atol=0)


@hypothesis_settings(max_examples=10, phases=[Phase.generate])  # shrinking would take minutes
@given(
    name=st.sampled_from(NAMES),
    old=st.permutations("abc").map("".join).flatmap(lambda text: st.integers(1, 3).map(lambda n: text[:n])),
    more=st.sampled_from(["", "d", "de"]),
    added=st.sampled_from(["", "D", "DX"]),
    turned=st.booleans(),
    overlapping=st.booleans(),
)
def test_classes_that_stay_have_the_logits_that_they_had(
    name: str, old: str, more: str, added: str, *, turned: bool, overlapping: bool, tmp_path_factory: Any
) -> None:
    folder = tmp_path_factory.mktemp("run")
    first = task("TF", old, overlapping=overlapping)
    new = task(("FT" if turned else "TF") + added, more + old[::-1], overlapping=overlapping)
    before = logits(trained(folder, model(name, first), first), first)
    network, _ = started(folder, model(name, new), new)
    after = logits(network, new)
    for class_name, expected in before.items():
        torch.testing.assert_close(after[class_name], expected, rtol=1e-4, atol=1e-4)


def test_an_added_modality_leaves_the_weights_of_the_others(tmp_path: Path) -> None:
    first, new = task("TF", "a"), task("XTF", "a")
    before = trained(tmp_path, model("oss-net-d", first), first).state_dict()
    network, plan = started(tmp_path, model("oss-net-d", new), new)
    after, weight = network.state_dict(), "encoder.blocks.0.convolution1.weight"
    assert torch.equal(after[weight][:, 1:], before[weight])
    assert not after[weight][:, 0].any()
    patches = "patch_encoder.convolution1.weight"  # of two kinds; a hidden channel for each modality
    assert torch.equal(after[patches][1:, [1, 2, 4, 5]], before[patches])
    assert after[patches][0].all()
    assert not after["patch_encoder.convolution2.weight"][:, 0].any()
    assert set(plan.mapped) == {
        weight,
        "encoder.blocks.0.shortcut.weight",
        *(f"patch_encoder.{each}" for each in ("convolution1.weight", "convolution1.bias")),
        "patch_encoder.convolution2.weight",
    }
    assert not plan.fresh


def test_removed_and_new_classes_are_said(tmp_path: Path) -> None:
    first, new = task("T", "abc"), task("T", "cxb")
    before = trained(tmp_path, model("oss-net-c", first, distance_head=True), first).state_dict()
    network, plan = started(tmp_path, model("oss-net-c", new, distance_head=True), new)
    after, output, coarse = network.state_dict(), "decoder.output.weight", "encoder.auxiliary.weight"
    assert set(plan.mapped) == {output, coarse}
    assert torch.equal(after[output][[0, 1, 3, 4, 6]], before[output][[0, 3, 2, 6, 5]])
    assert torch.equal(after[coarse][[0, 2]], before[coarse][[2, 1]])
    fresh = after[output][2]
    assert fresh.all()
    assert not any(torch.equal(fresh, row) for row in before[output])
    kept = len(after) - 2
    assert str(plan) == (
        f"starts from {tmp_path / 'checkpoint'}: {kept} tensors are kept, 2 mapped by name, 0 made anew; "
        "modalities: T kept; classes: c and b kept, x new, a left out"
    )


@pytest.mark.parametrize(
    ("name", "fields", "expected", "found"),
    [
        ("oss-net-c", {"decoder_width": 8, "decoder_blocks": 3}, "model.decoder_width: expected 16", "8"),
        ("oss-net-d", {}, "model.mid_range_patch: expected False", "True"),
        ("unet-3d", {}, "model.kind: expected occupancy", "unet"),
    ],
)
def test_another_architecture_is_one_line(
    name: str, fields: dict[str, Any], expected: str, found: str, tmp_path: Path
) -> None:
    of = task("T", "a")
    trained(tmp_path, model("oss-net-c", of), of)
    with pytest.raises(UserError) as caught:
        Initialization.plan(TrainedNetwork.read(tmp_path), model(name, of, **fields), of)
    folder = tmp_path / "checkpoint"
    assert str(caught.value) == (
        f"{expected}, as the network of {folder} has, found {found}; "
        "give --model oss-net-c and no fields of it, or another checkpoint"
    )


def test_recomputation_is_no_part_of_the_architecture(tmp_path: Path) -> None:
    of = task("T", "a")
    config = model("oss-net-c", of)
    trained(tmp_path, config, of)
    saving = replace(config, checkpoint_activations=True)  # type: ignore[call-arg]
    assert not Initialization.plan(TrainedNetwork.read(tmp_path), saving, of).mapped


def test_a_folder_without_a_checkpoint_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected a checkpoint, found no checkpoint"):
        TrainedNetwork.read(tmp_path)
