"""Windows of a dense network are blended as MONAI blends them."""

import pytest
import torch
from monai.inferers import sliding_window_inference

from ossnet.inference import InferenceConfig
from ossnet.inference.methods.sliding_window import dense_logits
from ossnet.models import build_network
from ossnet.sampling import SamplingConfig


@pytest.mark.parametrize("window", [(8, 8, 8), (4, 16, 8), (16, 4, 4)])
def test_windows_are_blended_as_monai_blends_them(window: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    network = build_network("unet-3d", channels=(4, 8), residual_units=1, in_channels=2, classes=2).eval()
    image, settings = torch.randn(2, 16, 16, 8), InferenceConfig()
    sampling = SamplingConfig(working_shape=(16, 16, 8), crop_shape=window)
    with torch.no_grad():
        found = dense_logits(network, image, sampling=sampling, settings=settings)
        expected = sliding_window_inference(
            image[None], window, 1, network, overlap=settings.window_overlap, mode="gaussian"
        )
    torch.testing.assert_close(found, expected[0])
