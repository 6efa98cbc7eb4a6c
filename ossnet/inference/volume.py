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

from ossnet.inference.audit import Audit
from ossnet.inference.boxes import Box, box_shape, boxes
from ossnet.inference.decision import check_decidable, decide, probabilities
from ossnet.inference.hierarchical import hierarchical_classes
from ossnet.inference.occupancy import EncodedVolume
from ossnet.inference.paper import paper_classes
from ossnet.inference.settings import InferenceConfig
from ossnet.inference.unet import unet_logits
from ossnet.models import OccupancyConfig, OccupancyNetwork, UNet
from ossnet.models.precision import autocast
from ossnet.sampling import SamplingConfig


@dataclass(frozen=True)
class VolumePrediction:
    """What a network says of every voxel; tensors lie on the network's device."""

    classes: UInt8[Tensor, "X Y Z"]
    """Codes (`ossnet.data.regions`): class indices, 0 for the background; or a bit a region."""
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
) -> VolumePrediction:
    """Decide every voxel of a preprocessed volume, of any shape, without its frame.

    Args:
        network: of this package, not wrapped; in evaluation mode while this runs, then left as it was.
        sampling: what the network was trained with: its working shape and crops.
        with_probabilities: every voxel is then decided, whatever the method.

    Raises:
        ValueError: a network of another kind, or one of more than eight overlapping regions.
    """
    overlapping = check_decidable(network)
    image = image.to(next(network.parameters()).device, torch.float32)
    with _evaluating(network), autocast(image.device, settings.precision):
        if isinstance(network, UNet):
            logits = unet_logits(network, image, sampling=sampling, settings=settings)
            parts = _parts(logits, settings.points_per_chunk)
        else:
            assert isinstance(network, OccupancyNetwork)
            volume = EncodedVolume(
                network, image, working=sampling.working_shape, chunk=settings.points_per_chunk
            )
            if settings.method != "dense" and not with_probabilities:
                return _coarse_to_fine(volume, image, settings, network.config)
            parts = volume.boxes()
        return _gather(parts, image, with_probabilities=with_probabilities, overlapping=overlapping)


def _coarse_to_fine(
    volume: EncodedVolume, image: Float[Tensor, "C X Y Z"], settings: InferenceConfig, config: OccupancyConfig
) -> VolumePrediction:
    overlapping = config.overlapping
    if settings.method == "hierarchical":
        codes, found = hierarchical_classes(volume, image, settings, overlapping=overlapping)
        return VolumePrediction(codes, None, volume.asked, found)
    prior = settings.method == "paper-prior"
    codes = paper_classes(volume, prior=prior, overlapping=overlapping, device=image.device)
    return VolumePrediction(codes, None, volume.asked)


def _parts(logits: Float[Tensor, "L X Y Z"], size: int) -> Iterator[tuple[Box, Float[Tensor, "N L"]]]:
    """Logits of a whole volume a box at a time, so that what is made of them stays small.

    On fake tensors, which have no values, the first two boxes stand for all.
    """
    every = boxes(logits.shape[1:], size)
    for box in islice(every, 2) if isinstance(logits, FakeTensor) else every:
        yield box, logits[(slice(None), *box)].flatten(1).T


def _gather(
    parts: Iterable[tuple[Box, Tensor]],
    image: Float[Tensor, "C X Y Z"],
    *,
    with_probabilities: bool,
    overlapping: bool,
) -> VolumePrediction:
    classes = torch.empty(image.shape[1:], dtype=torch.uint8, device=image.device)
    chances = None
    for box, logits in parts:
        classes[box] = decide(logits, overlapping=overlapping).reshape(box_shape(box))
        if with_probabilities:
            values = probabilities(logits, overlapping=overlapping)
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
