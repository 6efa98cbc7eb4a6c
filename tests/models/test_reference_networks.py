"""Parity with the authors' networks: parameter counts, and what was recorded from their code."""

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from ossnet.models import OccupancyNetwork, build_network, import_reference_weights
from ossnet.models.reference_weights import reference_key

FIXTURES = Path(__file__).parents[2].parent / "shared" / "fixtures" / "reference_networks.json"
NAMES = ("o-net", "oss-net-a", "oss-net-b", "oss-net-c", "oss-net-d")
COUNTS = {
    "brats": (6_890_753, 7_245_438, 7_254_358, 8_695_733, 8_704_653),
    "lits": (9_057_237, 9_409_177, 9_409_520, 10_866_490, 10_866_833),
}
PARTS = {
    "o-net/brats": (907_421, 5_983_332, 0),
    "oss-net-a/brats": (907_421, 6_338_017, 3_453),
    "oss-net-b/brats": (907_421, 6_346_937, 12_373),
    "oss-net-c/lits": (2_368_530, 8_497_960, 708),
    "oss-net-d/lits": (2_368_530, 8_498_303, 1_051),
}


def build(variant: str) -> OccupancyNetwork:
    name, dataset = variant.split("/")
    network = build_network(name, dataset=dataset)
    assert isinstance(network, OccupancyNetwork)
    return network


def count(module: torch.nn.Module | None) -> int:
    return 0 if module is None else sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("dataset", COUNTS)
def test_parameter_counts_are_the_papers(dataset: str) -> None:
    assert tuple(count(build(f"{name}/{dataset}")) for name in NAMES) == COUNTS[dataset]


@pytest.mark.parametrize("variant", PARTS)
def test_parts_have_the_papers_parameter_counts(variant: str) -> None:
    network = build(variant)
    patches = count(network.patch_encoder)
    assert (count(network.encoder), count(network.decoder) + patches, patches) == PARTS[variant]


@cache
def fixtures() -> dict[str, Any]:
    if not FIXTURES.is_file():
        pytest.skip("no folder `shared` with fixtures next to the checkout")
    return json.loads(FIXTURES.read_text())["variants"]


def wave(shape: list[int], *, amplitude: float, offset: float, phase: float) -> Tensor:
    index = torch.arange(math.prod(shape), dtype=torch.float64)
    return (offset + amplitude * torch.sin(0.7 * index + phase)).float().view(shape)


def weights(recorded: dict[str, Any]) -> dict[str, Tensor]:
    tensors = {}
    for entry in recorded["state_dict"]:
        if "values" in entry or "value" in entry:
            tensors[entry["key"]] = torch.tensor(entry.get("values", entry.get("value"))).view(entry["shape"])
        else:
            formula = {name: entry[name] for name in ("amplitude", "offset", "phase")}
            tensors[entry["key"]] = wave(entry["shape"], **formula)
    return tensors


def inputs(recorded: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor | None, list[int]]:
    shape = recorded["encoder_input_shape"]
    grid = [2 * edge for edge in shape[2:]]
    voxels = torch.tensor(recorded["coordinates"], dtype=torch.float32)[None]
    patches = recorded["patches"] and wave(recorded["patch_shape"], **recorded["patches"])
    coordinates = 2 * voxels / (torch.tensor(grid) - 1) - 1
    return wave(shape, **recorded["encoder_input"]), coordinates, patches, grid


def loaded(variant: str) -> tuple[OccupancyNetwork, dict[str, Any]]:
    recorded, network = fixtures()[variant], build(variant)
    import_reference_weights(network, weights(recorded))
    return network, recorded


def assert_close(found: Tensor, expected: Any) -> None:
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("variant", [f"{name}/{dataset}" for dataset in COUNTS for name in NAMES])
def test_evaluation_is_the_references(variant: str) -> None:
    network, recorded = loaded(variant)
    encoder_input, *rest = inputs(recorded)
    network.eval()
    with torch.no_grad():
        latent = network.encode(encoder_input)
        probability = network.decode(latent, *rest).sigmoid().flatten()
    assert_close(probability, recorded["eval_probability"])
    assert list(latent.vectors.shape) == recorded["latent_shape"]
    assert_close(latent.vectors.flatten()[:16], recorded["latent_first16"])
    assert latent.vectors.double().sum().item() == pytest.approx(recorded["latent_sum"], rel=1e-4)
    assert latent.vectors.double().abs().sum().item() == pytest.approx(recorded["latent_abs_sum"], rel=1e-4)
    segmentation = recorded["segmentation"]
    assert (latent.auxiliary is None) == (segmentation is None)
    if latent.auxiliary is not None:
        coarse = latent.auxiliary.sigmoid()
        assert list(coarse.shape) == segmentation["shape"]
        assert_close(coarse.flatten()[:16], segmentation["first16"])
        assert coarse.double().sum().item() == pytest.approx(segmentation["sum"], rel=1e-4)


@pytest.mark.parametrize("variant", [f"{name}/brats" for name in NAMES])
def test_a_training_step_is_the_references(variant: str) -> None:
    network, recorded = loaded(variant)
    expected = recorded["train"]
    prediction = network.train()(*inputs(recorded))
    probability = prediction.logits.sigmoid().flatten()
    assert_close(probability, expected["probability"])
    loss = functional.binary_cross_entropy(probability, torch.tensor(recorded["labels"]).float())
    assert loss.item() == pytest.approx(expected["loss"], rel=1e-4)
    if prediction.auxiliary is not None:
        index = torch.arange(prediction.auxiliary.numel(), dtype=torch.float64)
        target = (torch.sin(0.4 * index) > 0).float().view(prediction.auxiliary.shape)
        coarse = functional.binary_cross_entropy_with_logits(prediction.auxiliary, target)
        assert coarse.item() == pytest.approx(expected["segmentation_loss"], rel=1e-4)
        loss = loss + 0.1 * coarse
    assert loss.item() == pytest.approx(expected["total_loss"], rel=1e-4)
    loss.backward()
    assert_gradients(network, expected["gradients"])


def assert_gradients(network: OccupancyNetwork, expected: dict[str, dict[str, float]]) -> None:
    found = {reference_key(key): parameter.grad for key, parameter in network.named_parameters()}
    assert set(found) == set(expected)
    for key, sums in expected.items():
        gradient, size = found[key].double(), sums["abs_sum"]
        # A bias before batch statistics has no gradient but rounding, which 1e-7 covers.
        tolerance = 2e-3 * size + 1e-7
        assert gradient.abs().sum().item() == pytest.approx(size, abs=tolerance), key
        assert gradient.sum().item() == pytest.approx(sums["sum"], abs=tolerance), key


def test_every_key_of_the_authors_is_known_in_their_order() -> None:
    for variant, recorded in fixtures().items():
        expected = {entry["key"] for entry in recorded["state_dict"]}
        assert {reference_key(key) for key in build(variant).state_dict()} == expected


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("missing", r"key 'encoder.blocks.0.main_mapping.0.weight' of shape \(16, 4, 3, 3, 3\) is missing"),
        ("shape", r"key 'decoder.final_mapping.0.weight' has shape \(3, 2\), expected \(1, 512\)"),
        ("unknown", r"unexpected key 'decoder.blocks.0.cnb_3.bias' for oss-net-c"),
    ],
)
def test_a_state_dict_that_does_not_fit_is_refused_and_changes_nothing(damage: str, message: str) -> None:
    network, state = build("oss-net-c/brats"), weights(fixtures()["oss-net-c/brats"])
    if damage == "missing":
        del state["encoder.blocks.0.main_mapping.0.weight"]
    elif damage == "shape":
        state["decoder.final_mapping.0.weight"] = torch.zeros(3, 2)
    else:
        state["decoder.blocks.0.cnb_3.bias"] = torch.zeros(1)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        import_reference_weights(network, state)
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_another_networks_weights_are_refused() -> None:
    state = weights(fixtures()["oss-net-b/brats"])
    with pytest.raises(
        ValueError, match=r"decoder.patch_mapping.mapping.0.weight' has shape \(4, 8, 7, 7, 7\)"
    ):
        import_reference_weights(build("oss-net-a/brats"), state)
    with pytest.raises(ValueError, match="reference weights are for occupancy networks, found UNet"):
        import_reference_weights(build_network("unet-2d"), state)
