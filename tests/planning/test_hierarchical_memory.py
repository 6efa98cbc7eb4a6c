"""What is predicted of a hierarchical prediction is never exceeded, whatever the network is sure of."""

import pytest
import torch

from ossnet.benchmarks.oracle import Oracle, ellipsoid, scan
from ossnet.config import Config
from ossnet.inference import predict_volume
from ossnet.memory import track_peak
from ossnet.models import OccupancyConfig
from ossnet.planning.inference import MAPS, predict_inference

SHAPE = (128, 96, 80)
MODEL = OccupancyConfig(
    in_channels=2,
    encoder_channels=(4, 8),
    latent_grid=(2, 2, 2),
    decoder_width=16,
    decoder_blocks=2,
    patch_edge=3,
)


@pytest.mark.parametrize("sure", [True, False])
def test_a_hierarchical_prediction_takes_no_more_than_predicted(sure: bool) -> None:
    """One network decides for an ellipsoid, the other for nothing but noise, and is asked everywhere."""
    torch.manual_seed(0)
    inside = ellipsoid(SHAPE) if sure else torch.rand(SHAPE) < 0.5
    image, network = scan(inside, MODEL.in_channels), Oracle(MODEL, inside)
    config = Config(model=MODEL).replace(
        {"sampling.working_shape": list(SHAPE), "inference.points_per_chunk": 1024}
    )
    resident = {"parameters": [*network.parameters(), *network.buffers()], "volume": [image]}
    with torch.inference_mode(), track_peak("cpu", resident=resident) as peak:
        found = predict_volume(network.eval(), image, sampling=config.sampling, settings=config.inference)
    assert (found.asked < 0.1 * image[0].numel()) == sure
    predicted = predict_inference(config)
    assert predicted.parts[MAPS] == 24 * image[0].numel()
    assert 0.6 * predicted.allocated < peak.allocated <= predicted.allocated
