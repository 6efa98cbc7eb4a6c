"""Prediction with a dense network: the whole grid, or windows of the size it was trained on, or slices.

Letters: B batch, C channels, K logits, X Y Z voxel axes in nibabel's order.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from ossnet.inference.config import InferenceConfig
from ossnet.inference.query.grid import prediction_grid
from ossnet.models import DenseNetwork
from ossnet.sampling import SamplingConfig
from ossnet.sampling.grid import offset, pad

_SIGMA, _LEAST_WEIGHT = 0.125, 1e-3  # MONAI's, the first in edges of a window


def dense_logits(
    network: DenseNetwork,
    image: Float[Tensor, "C X Y Z"],
    *,
    sampling: SamplingConfig,
    settings: InferenceConfig,
) -> Float[Tensor, "K X Y Z"]:
    """Logits of every voxel; the network sees the frame, crops and slices that it saw in training."""
    shape = image.shape[1:]
    grid = prediction_grid(network.config, shape, sampling.working_shape)
    padded = pad(image, grid)
    dims = network.config.spatial_dims
    window = None if sampling.crop_shape is None else sampling.crop_shape[:dims]
    if dims == 2:
        slices = padded.movedim(-1, 0).split(settings.slices_per_chunk)
        parts = [_windowed(network, part, window, settings.window_overlap) for part in slices]
        logits = torch.cat(parts).movedim(0, -1)
    else:
        logits = _windowed(network, padded[None], window, settings.window_overlap)[0]
    box = (slice(start, start + edge) for start, edge in zip(offset(shape, grid), shape, strict=True))
    return logits[(slice(None), *box)]


def _windowed(
    network: DenseNetwork, image: Float[Tensor, "B C *grid"], window: tuple[int, ...] | None, overlap: float
) -> Float[Tensor, "B K *grid"]:
    if window is None or all(edge >= length for edge, length in zip(window, image.shape[2:], strict=True)):
        return network(image)
    from monai.inferers import sliding_window_inference

    logits = sliding_window_inference(
        image,
        window,
        sw_batch_size=1,
        predictor=network,
        overlap=overlap,
        roi_weight_map=_weights(window, image)[None, None],
    )
    assert isinstance(logits, Tensor)
    return logits


def _weights(window: tuple[int, ...], image: Tensor) -> Float[Tensor, "*window"]:
    """MONAI's Gaussian weights of a window; its own function reads a value, and fake tensors have none."""
    weights = torch.ones((), dtype=torch.float, device=image.device)
    for edge in window:
        steps = torch.arange(edge, dtype=torch.float, device=image.device) - (edge - 1) / 2
        weights = weights.unsqueeze(-1) * torch.exp(steps**2 / (-2 * (_SIGMA * edge) ** 2))
    return weights.clamp_(min=_LEAST_WEIGHT)
