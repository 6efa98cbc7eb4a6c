"""Any network on any whole volume of the working grid.

Letters: C channels, K foreground classes, X Y Z voxel axes in nibabel's order.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from ossnet.inference.config import InferenceConfig
from ossnet.inference.methods.audit import Audit
from ossnet.inference.methods.hierarchical import hierarchical_classes
from ossnet.inference.methods.paper import paper_classes
from ossnet.inference.methods.sliding_window import dense_logits
from ossnet.inference.query.activation import check_supported, mean_logits, predict_classes, probabilities
from ossnet.inference.query.boxes import Box, box_shape, boxes
from ossnet.inference.query.encoded_volume import EncodedVolume
from ossnet.inference.query.grid import QueryGrid
from ossnet.inference.query.tta import FlipEnsemble, mirrors
from ossnet.models import DenseNetwork, OccupancyConfig, OccupancyNetwork
from ossnet.models.precision import autocast
from ossnet.sampling import SamplingConfig


@dataclass(frozen=True)
class VolumePrediction:
    """What a network says of every voxel; tensors lie on the network's device."""

    classes: UInt8[Tensor, "X Y Z"]
    """Codes (`ossnet.data.labels.codes`): class indices, 0 for the background; or a bit a region."""
    probabilities: Float[Tensor, "K X Y Z"] | None
    """Probability of every foreground class, where it was asked for."""
    asked: int
    """Voxels that the network decided."""
    audit: Audit | None = None
    """Of the voxels that the hierarchical method filled in."""


@torch.inference_mode()
def predict_volume(
    network: nn.Module,
    image: Float[Tensor, "C X Y Z"],
    *,
    sampling: SamplingConfig,
    settings: InferenceConfig,
    with_probabilities: bool = False,
    asked: QueryGrid | None = None,
    temperature: float = 1.0,
) -> VolumePrediction:
    """Decide every voxel of a preprocessed volume, of any shape, without its frame.

    Args:
        network: of this package, not wrapped; in evaluation mode while this runs, then left as it was.
        sampling: what the network was trained with: its working shape and crops.
        with_probabilities: every voxel is then decided, whatever the method.
        asked: of occupancy networks, the grid whose voxels are decided, where it is not the volume's own.
        temperature: of the probabilities.

    Raises:
        ValueError: a network of another kind, one of more than eight overlapping regions, or a grid that a
            U-Net cannot be asked on.
    """
    overlapping = check_supported(network)
    image = image.to(next(network.parameters()).device, torch.float32)
    with _evaluating(network), autocast(image.device, settings.precision):
        if isinstance(network, DenseNetwork):
            if asked is not None:
                msg = "asked: expected an OccupancyNetwork, which decides anywhere, found a dense one"
                raise ValueError(msg)
            parts = _dense_parts(network, image, sampling, settings)
        else:
            assert isinstance(network, OccupancyNetwork)
            volume = _encode(network, image, sampling, settings, asked)
            image = volume.image
            if settings.method != "dense" and not with_probabilities:
                return _coarse_to_fine(volume, image, settings, network.config)
            parts = volume.boxes()
        heat = temperature if with_probabilities else None
        return _gather(parts, image, temperature=heat, overlapping=overlapping)


def _encode(
    network: OccupancyNetwork,
    image: Float[Tensor, "C X Y Z"],
    sampling: SamplingConfig,
    settings: InferenceConfig,
    asked: QueryGrid | None,
) -> EncodedVolume:
    working, chunk = sampling.working_shape, settings.points_per_chunk
    if settings.flips:
        return FlipEnsemble(network, image, working=working, chunk=chunk, asked=asked, flips=settings.flips)
    return EncodedVolume(network, image, working=working, chunk=chunk, asked=asked)


def _coarse_to_fine(
    volume: EncodedVolume, image: Float[Tensor, "C X Y Z"], settings: InferenceConfig, config: OccupancyConfig
) -> VolumePrediction:
    overlapping = config.overlapping
    if settings.method == "hierarchical":
        codes, found = hierarchical_classes(volume, image, settings, overlapping=overlapping)
        return VolumePrediction(codes, None, volume.asked, found)
    prior = settings.method == "paper-guided"
    codes = paper_classes(volume, prior=prior, overlapping=overlapping, device=image.device)
    return VolumePrediction(codes, None, volume.asked)


def _dense_parts(
    network: DenseNetwork,
    image: Float[Tensor, "C X Y Z"],
    sampling: SamplingConfig,
    settings: InferenceConfig,
) -> Iterator[tuple[Box, Float[Tensor, "N L"]]]:
    """Logits of a whole volume a box at a time, so that what is made of them stays small.

    On fake tensors, which have no values, the first two boxes stand for all.
    """
    seen = []
    for axes in mirrors(settings.flips):
        places = [1 + axis for axis in axes]
        logits = dense_logits(network, image.flip(places), sampling=sampling, settings=settings)
        seen.append(logits.flip(places))
    every = boxes(image.shape[1:], settings.points_per_chunk)
    for box in islice(every, 2) if isinstance(image, FakeTensor) else every:
        parts = [logits[(slice(None), *box)].flatten(1).T for logits in seen]
        mean = mean_logits(parts, overlapping=network.config.overlapping) if settings.flips else parts[0]
        yield box, mean


def _gather(
    parts: Iterable[tuple[Box, Tensor]],
    image: Float[Tensor, "C X Y Z"],
    *,
    temperature: float | None,
    overlapping: bool,
) -> VolumePrediction:
    """The whole from its parts; with probabilities where there is a temperature."""
    classes = torch.empty(image.shape[1:], dtype=torch.uint8, device=image.device)
    chances = None
    for box, logits in parts:
        classes[box] = predict_classes(logits, overlapping=overlapping).reshape(box_shape(box))
        if temperature is not None:
            values = probabilities(logits, overlapping=overlapping, temperature=temperature)
            if chances is None:
                chances = values.new_empty((values.shape[1], *classes.shape))
            chances[(slice(None), *box)] = values.T.reshape(-1, *box_shape(box))
    return VolumePrediction(classes, chances, classes.numel())


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)
