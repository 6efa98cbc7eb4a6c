"""What is predicted of a hierarchical prediction is never exceeded, whatever the network is sure of."""

import pytest
import torch

from ossnet.benchmarks.inference.known_shape_network import KnownShapeNetwork, ellipsoid, scan
from ossnet.config import Config
from ossnet.inference import predict_volume
from ossnet.memory import PeakMemory, track_peak
from ossnet.models import OccupancyConfig, network_from_config
from ossnet.planning.inference import predict_inference

SHAPE = (80, 64, 48)
MODEL = OccupancyConfig(
    in_channels=2,
    encoder_channels=(4, 8),
    latent_grid=(2, 2, 2),
    decoder_width=16,
    decoder_blocks=2,
    patch_edge=3,
)


CONFIG = Config(model=MODEL).replace(
    {"sampling.working_shape": list(SHAPE), "inference.points_per_chunk": 2048}
)


@pytest.fixture(scope="module")
def predicted() -> PeakMemory:
    return predict_inference(CONFIG)


@pytest.mark.parametrize(("noise", "least"), [(0.0, 0.35), (0.01, 0.6), (0.5, 0.7)])
def test_a_hierarchical_prediction_takes_no_more_than_predicted(
    noise: float, least: float, predicted: PeakMemory
) -> None:
    """Networks that decide for an ellipsoid, and for noise that nothing shows: anything may look like it."""
    torch.manual_seed(0)
    shown = ellipsoid(SHAPE)
    inside = shown | (torch.rand(SHAPE) < noise)
    image, network = scan(shown, MODEL.in_channels), KnownShapeNetwork(MODEL, inside)
    resident = {"parameters": [*network.parameters(), *network.buffers()], "volume": [image]}
    with torch.inference_mode(), track_peak("cpu", resident=resident) as peak:
        found = predict_volume(network.eval(), image, sampling=CONFIG.sampling, settings=CONFIG.inference)
    assert (found.n_queried < 0.1 * image[0].numel()) == (noise == 0)
    assert least * predicted.allocated < peak.allocated <= predicted.allocated


def test_many_classes_take_no_more_than_predicted() -> None:
    """An untrained network, unsure everywhere: all logits of the lattices are kept."""
    torch.manual_seed(0)
    changes = {"model.classes": 30, "inference.dense_max_voxels": 0, "inference.points_per_chunk": 512}
    config = CONFIG.replace({**changes, "sampling.working_shape": [32, 24, 24]})
    network = network_from_config(config.model)
    image = torch.randn(2, 32, 24, 24)
    resident = {"parameters": [*network.parameters(), *network.buffers()], "volume": [image]}
    with torch.inference_mode(), track_peak("cpu", resident=resident) as peak:
        predict_volume(network.eval(), image, sampling=config.sampling, settings=config.inference)
    predicted = predict_inference(config)
    assert 0.7 * predicted.allocated < peak.allocated <= predicted.allocated
