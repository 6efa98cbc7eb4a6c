"""Occupancy networks of any shape: against the plain composition, in every mode they run in."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from network_inputs import random_inputs
from plain_network import forward as plain_forward
from torch.nn import functional

from ossnet.models import OccupancyConfig, OccupancyNetwork, build_network
from ossnet.models.kernels import eager, tiles
from ossnet.models.kernels._fake import FakeTensorMode

SMALL = {
    "encoder_channels": (4, 6),
    "latent_grid": (2, 3, 2),
    "decoder_width": 16,
    "decoder_blocks": 3,
    "patch_edge": 3,
}
SIZES = st.integers(1, 21)


def small(name: str, **fields: object) -> OccupancyNetwork:
    torch.manual_seed(0)
    network = build_network(name, **{**SMALL, "in_channels": 2, **fields})
    assert isinstance(network, OccupancyNetwork)
    return network


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("o-net", {}),
        ("oss-net-a", {"coordinates": "normalized"}),
        ("oss-net-b", {"classes": 3}),
        ("oss-net-c", {"classes": 2, "overlapping": True, "conditional_norm": "feature"}),
        ("oss-net-d", {"decoder_blocks": 1, "encoder_channels": (4, 4, 4), "latent_grid": (1, 1, 2)}),
        ("feature-query", {"classes": 2}),
        ("feature-query-patch", {"skip_connections": False, "coordinates": "voxel"}),
        ("feature-pyramid", {"pyramid_channels": 5, "encoder_channels": (4, 6, 8)}),
    ],
)
def test_values_and_gradients_equal_the_plain_composition(
    name: str, fields: dict[str, object], training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eager, "_CPU_ELEMENTS", 100)  # several tiles, the last one short
    network = small(name, **fields).double().train(training)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    inputs = random_inputs(network.config, (16, 32, 16), dtype=torch.float64)
    ours = network.encode(inputs.encoder_input)
    logits = network.decode(ours, *inputs[1:])
    plain_logits, plain_auxiliary = plain_forward(network, *inputs)
    torch.testing.assert_close(logits, plain_logits.float(), rtol=1e-6, atol=1e-6)
    value, plain = logits.double().square().sum(), plain_logits.square().sum()
    if ours.auxiliary is not None:
        torch.testing.assert_close(ours.auxiliary, plain_auxiliary)
        value, plain = value + ours.auxiliary.square().sum(), plain + plain_auxiliary.square().sum()
    parameters = dict(network.named_parameters())
    gradients = torch.autograd.grad(value, list(parameters.values()))
    expected = torch.autograd.grad(plain, list(parameters.values()))
    for key, one, other in zip(parameters, gradients, expected, strict=True):
        torch.testing.assert_close(
            one, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()) + 1e-6, msg=key
        )


@pytest.mark.parametrize("classes", [1, 3])
def test_a_distance_head_adds_to_the_logits(classes: int) -> None:
    plain = small("feature-query", classes=classes)
    headed = small("feature-query", classes=classes, distance_head=True)
    weights = headed.state_dict()
    weights["decoder.output.weight"] = weights["decoder.output.weight"][: plain.config.logits]
    plain.load_state_dict(weights)
    inputs = random_inputs(plain.config, (8, 12, 16))
    expected, found = plain(*inputs), headed(*inputs)
    assert expected.distances is None
    assert found.distances.shape == (*expected.logits.shape[:2], classes)
    torch.testing.assert_close(found.logits, expected.logits)
    decoded = headed.eval().decode(headed.encode(inputs.encoder_input), *inputs[1:])
    assert decoded.shape == expected.logits.shape


@settings(max_examples=40)
@given(
    in_channels=st.integers(1, 3),
    classes=st.integers(1, 4),
    overlapping=st.booleans(),
    grid=st.tuples(SIZES, SIZES, SIZES),
    downscale=st.integers(1, 3),
    latent_grid=st.sampled_from([(1, 2, 1), (2, 2, 2), (3, 1, 4)]),
    patch_edge=st.sampled_from([3, 5, 7, 9, 11]),
    blocks=st.integers(1, 3),
    depth=st.integers(1, 3),
    switches=st.tuples(*[st.booleans()] * 5),
    pyramid=st.sampled_from([0, 3]),
)
def test_any_shape_trains_and_evaluates(
    in_channels: int,
    classes: int,
    overlapping: bool,
    grid: tuple[int, int, int],
    downscale: int,
    latent_grid: tuple[int, int, int],
    patch_edge: int,
    blocks: int,
    depth: int,
    switches: tuple[bool, bool, bool, bool, bool],
    pyramid: int,
) -> None:
    skip, auxiliary, local, mid_range, query = switches
    config = OccupancyConfig(
        in_channels=in_channels,
        classes=classes,
        overlapping=overlapping,
        encoder_channels=(3, 4, 2)[:depth],
        encoder_downscale=downscale,
        latent_grid=latent_grid,
        skip_connections=skip,
        auxiliary_head=auxiliary,
        local_patch=local,
        mid_range_patch=mid_range,
        feature_query=query,
        pyramid_channels=pyramid if query else 0,
        patch_edge=patch_edge,
        decoder_width=5,
        decoder_blocks=blocks,
    )
    network = OccupancyNetwork(config)
    inputs = random_inputs(config, grid, points=3)
    prediction = network(*inputs)
    expected = classes if overlapping or classes == 1 else classes + 1
    assert prediction.logits.shape == (2, 3, expected)
    total = prediction.logits.square().sum()
    assert (prediction.auxiliary is not None) == auxiliary
    if prediction.auxiliary is not None:
        cells = [-(-edge // downscale) for edge in grid]
        for _ in range(depth):
            cells = [-(-edge // 2) for edge in cells]
        assert list(prediction.auxiliary.shape) == [2, classes, *cells]
        total = total + prediction.auxiliary.square().sum()
    total.backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
    with torch.no_grad():
        assert network.eval()(*inputs).logits.isfinite().all()


def test_evaluation_a_part_at_a_time_equals_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    network = small("oss-net-d").eval()
    inputs = random_inputs(network.config, (16, 32, 16), points=23)
    whole = network(*inputs).logits
    monkeypatch.setattr(tiles, "_CPU_POINTS", 5)
    with torch.no_grad():
        torch.testing.assert_close(network(*inputs).logits, whole, rtol=1e-5, atol=1e-6)


def test_a_graph_may_be_walked_twice() -> None:
    network = small("oss-net-d")
    prediction = network(*random_inputs(network.config, (16, 32, 16)))
    outputs = [prediction.logits, prediction.auxiliary]
    outer = [torch.randn_like(output) for output in outputs]
    before = [tensor.clone() for tensor in outer]
    parameters = list(network.parameters())
    first, second = (torch.autograd.grad(outputs, parameters, outer, retain_graph=True) for _ in range(2))
    for one, other in zip([*first, *outer], [*second, *before], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("training", [True, False])
def test_local_and_mid_range_patches_may_come_apart(training: bool) -> None:
    network = small("oss-net-d").train(training)
    inputs = random_inputs(network.config, (16, 32, 16))
    assert inputs.patches is not None
    local, mid_range = inputs.patches.split(network.config.in_channels, 2)
    local = local.half()
    whole = inputs._replace(patches=torch.cat([local.float(), mid_range], 2))
    found, expected = (
        network(*given).logits for given in (inputs._replace(patches=(local, mid_range)), whole)
    )
    assert torch.equal(found, expected)
    latent = network.encode(inputs.encoder_input)
    decoded = network.decode(latent, inputs.coordinates, (local, mid_range), inputs.grid_shape)
    assert torch.equal(decoded, expected)


def test_the_latent_serves_many_calls() -> None:
    network = small("oss-net-c").eval()
    inputs = random_inputs(network.config, (16, 32, 16), points=12)
    with torch.no_grad():
        latent = network.encode(inputs.encoder_input)
        halves = [
            network.decode(latent, inputs.coordinates[:, part], inputs.patches[:, part], inputs.grid_shape)
            for part in (slice(5), slice(5, None))
        ]
        torch.testing.assert_close(torch.cat(halves, 1), network(*inputs).logits, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["o-net", "oss-net-d"])
def test_no_points_give_no_logits(name: str) -> None:
    network = small(name).eval()
    inputs = random_inputs(network.config, (16, 32, 16), points=0)
    with torch.no_grad():
        assert network(*inputs).logits.shape == (2, 0, 1)


def test_coordinates_reach_the_voxel_networks_as_indices() -> None:
    network = small("o-net").eval()
    latent = network.encode(torch.randn(1, 2, 8, 8, 8))
    coordinates = torch.tensor([[[-1.0, 0.0, 1.0]]])
    wide = network.decode(latent, coordinates, None, (101, 101, 101))
    scaled = network.decode(latent, coordinates * 0.5 - 0.5, None, (201, 201, 201))
    torch.testing.assert_close(wide[..., 0], scaled[..., 0], atol=1e-4, rtol=1e-3)


def test_bfloat16_trains_like_float32() -> None:
    single = small("oss-net-c", decoder_width=64)
    half = copy.deepcopy(single)
    inputs = random_inputs(single.config, (16, 32, 16), points=200)
    labels = (inputs.coordinates[..., :1] > 0).float()
    losses: dict[str, list[float]] = {"single": [], "half": []}
    for name, network in (("single", single), ("half", half)):
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
        for _ in range(25):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=name == "half"):
                prediction = network(*inputs)
            loss = functional.binary_cross_entropy_with_logits(prediction.logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[name].append(loss.item())
    assert prediction.logits.dtype == torch.float32
    assert losses["half"][-1] < 0.5 * losses["half"][0]
    assert losses["half"][0] == pytest.approx(losses["single"][0], rel=0.05)


def test_it_runs_on_fake_tensors() -> None:
    with FakeTensorMode():
        network = build_network("oss-net-d", dataset="brats")
        inputs = random_inputs(network.config, (256, 256, 160), batch=1, points=2**14)
        prediction = network(*inputs)
        (prediction.logits.sum() + prediction.auxiliary.sum()).backward()
        assert prediction.logits.shape == (1, 2**14, 1)
        assert prediction.auxiliary.shape == (1, 1, 8, 8, 5)
        assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize(("name", "mebibytes"), [("o-net", 680), ("oss-net-a", 770), ("oss-net-d", 820)])
@pytest.mark.parametrize("half", [False, True])
def test_a_native_step_keeps_a_third_of_the_reference(name: str, mebibytes: int, half: bool) -> None:
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
        return tensor

    with FakeTensorMode(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network = build_network(name, dataset="brats")
        own = {tensor.untyped_storage()._cdata for tensor in network.state_dict().values()}
        inputs = random_inputs(network.config, (256, 256, 160), batch=1, points=2**14)
        own |= {tensor.untyped_storage()._cdata for tensor in inputs[:3] if tensor is not None}
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            prediction = network(*inputs)
        total = sum(size for storage, size in kept.items() if storage not in own) / 2**20
    assert prediction.logits.requires_grad
    assert total < (0.55 if half else 1) * mebibytes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"encoder_input": torch.zeros(2, 3, 8, 8, 8)},
            r"encoder_input: expected shape \[any, 2, any, any, any\]",
        ),
        (
            {"coordinates": torch.zeros(2, 20, 2)},
            r"coordinates: expected shape \[2, 20, 3\], found \(2, 20, 2\)",
        ),
        ({"coordinates": torch.zeros(1, 20, 3)}, r"coordinates: expected shape \[2, 20, 3\]"),
        ({"patches": None}, r"patches: expected shape \[2, 20, 2, 3, 3, 3\], found None"),
        ({"patches": torch.zeros(2, 20, 2, 5, 5, 5)}, r"patches: expected shape \[2, 20, 2, 3, 3, 3\]"),
        ({"patches": (torch.zeros(2, 20, 2, 3, 3, 3),) * 2}, r"patches: expected 1 tensors.*found 2"),
        ({"patches": (torch.zeros(2, 20, 1, 3, 3, 3),)}, r"patches: expected shape \[2, 20, 2, 3, 3, 3\]"),
    ],
)
def test_a_shape_that_does_not_fit_is_named(change: dict[str, object], message: str) -> None:
    network = small("oss-net-a")
    inputs = random_inputs(network.config, (16, 16, 16))._replace(**change)
    with pytest.raises(ValueError, match=message):
        network(*inputs)


def test_a_volume_too_small_for_batch_statistics_is_refused() -> None:
    network = small("o-net")
    with pytest.raises(ValueError, match="batch statistics need two values"):
        network(*random_inputs(network.config, (4, 4, 4), batch=1))
