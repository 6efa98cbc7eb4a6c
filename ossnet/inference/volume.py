"""Any network on any whole volume of the working grid.

Letters: C channels, K foreground classes, L logits, N voxels of a box, X Y Z voxel axes in nibabel's order.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from ossnet.data.labels.scheme import ClassScheme
from ossnet.inference.config import InferenceConfig
from ossnet.inference.methods.hierarchical import Audit, hierarchical_classes
from ossnet.inference.methods.paper import paper_classes
from ossnet.inference.methods.sliding_window import dense_logits
from ossnet.inference.query.boxes import Box, box_shape, boxes
from ossnet.inference.query.encoded_volume import EncodedVolume
from ossnet.inference.query.grid import QueryGrid
from ossnet.inference.query.tta import FlipEnsemble, mirrors
from ossnet.models import DenseNetwork, OccupancyNetwork
from ossnet.models.kernels._fake import is_fake
from ossnet.models.kernels.precision import autocast
from ossnet.sampling import SamplingConfig


@dataclass(frozen=True)
class VolumePrediction:
    """A network's decision for every voxel; tensors are on the network's device."""

    classes: UInt8[Tensor, "X Y Z"]
    """Codes (`ossnet.data.labels.scheme`): class indices, 0 for the background; or a bit a region."""
    probabilities: Float[Tensor, "K X Y Z"] | None
    """Probability of every foreground class, where requested."""
    n_queried: int
    """Voxels that the network decided."""
    audit: Audit | None = None
    """The check of the voxels that the hierarchical method interpolated; None of other methods."""


@torch.inference_mode()
def predict_volume(
    network: nn.Module,
    image: Float[Tensor, "C X Y Z"],
    *,
    sampling: SamplingConfig,
    settings: InferenceConfig,
    with_probabilities: bool = False,
    grid: QueryGrid | None = None,
    temperature: float = 1.0,
) -> VolumePrediction:
    """Decide every voxel of a preprocessed volume, of any shape, without its frame.

    Args:
        network: one of this package, not wrapped; in evaluation mode while this runs, then left as it was.
        sampling: what the network was trained with: its working shape and crops.
        with_probabilities: whether to return probabilities; every voxel is then decided by the network,
            whatever the method.
        grid: the voxels to decide, where they are not the volume's own; for occupancy networks only.
        temperature: the divisor of the logits that probabilities are made from.

    Raises:
        ValueError: a network of another kind, one of more than eight overlapping regions, or a grid for a
            dense network.
        UserError: the method paper-guided for a network without the auxiliary head.
    """
    if not isinstance(network, OccupancyNetwork | DenseNetwork):
        found = type(network).__name__
        msg = f"expected an OccupancyNetwork or a DenseNetwork of ossnet.models, found {found}"
        raise ValueError(msg)
    scheme = ClassScheme.of(network.config)
    image = image.to(next(network.parameters()).device, torch.float32)
    with _evaluating(network), autocast(image.device, settings.precision):
        if isinstance(network, DenseNetwork):
            if grid is not None:
                msg = "grid: expected an OccupancyNetwork, which decides anywhere, found a dense one"
                raise ValueError(msg)
            parts = _dense_parts(network, image, sampling, settings)
        else:
            volume = _encode(network, image, sampling, settings, grid)
            image = volume.image
            if settings.method != "dense" and not with_probabilities:
                return _coarse_to_fine(volume, image, settings, scheme)
            parts = volume.boxes()
        return _gather(parts, image, scheme, temperature=temperature if with_probabilities else None)


def _encode(
    network: OccupancyNetwork,
    image: Float[Tensor, "C X Y Z"],
    sampling: SamplingConfig,
    settings: InferenceConfig,
    grid: QueryGrid | None,
) -> EncodedVolume:
    working, chunk = sampling.working_shape, settings.points_per_chunk
    if settings.flips:
        return FlipEnsemble(network, image, working=working, chunk=chunk, grid=grid, flips=settings.flips)
    return EncodedVolume(network, image, working=working, chunk=chunk, grid=grid)


def _coarse_to_fine(
    volume: EncodedVolume, image: Float[Tensor, "C X Y Z"], settings: InferenceConfig, scheme: ClassScheme
) -> VolumePrediction:
    if settings.method == "hierarchical":
        codes, audit = hierarchical_classes(volume, image, settings, scheme)
        return VolumePrediction(codes, None, volume.n_queried, audit)
    guided = settings.method == "paper-guided"
    codes = paper_classes(volume, scheme, guided=guided, device=image.device)
    return VolumePrediction(codes, None, volume.n_queried)


def _dense_parts(
    network: DenseNetwork,
    image: Float[Tensor, "C X Y Z"],
    sampling: SamplingConfig,
    settings: InferenceConfig,
) -> Iterator[tuple[Box, Float[Tensor, "N L"]]]:
    """Logits of a whole volume a box at a time, so that what is made of them stays small.

    On fake tensors, which have no values, the first two boxes stand for all.
    """
    scheme, mirrored = ClassScheme.of(network.config), []
    for axes in mirrors(settings.flips):
        dims = [1 + axis for axis in axes]
        logits = dense_logits(network, image.flip(dims), sampling=sampling, settings=settings)
        mirrored.append(logits.flip(dims))
    every = boxes(image.shape[1:], settings.points_per_chunk)
    for box in islice(every, 2) if is_fake(image) else every:
        parts = [logits[(slice(None), *box)].flatten(1).T for logits in mirrored]
        yield box, scheme.mean_logits(parts) if settings.flips else parts[0]


def _gather(
    parts: Iterable[tuple[Box, Tensor]],
    image: Float[Tensor, "C X Y Z"],
    scheme: ClassScheme,
    *,
    temperature: float | None,
) -> VolumePrediction:
    """The whole volume from the logits of its boxes; with probabilities where there is a temperature."""
    classes = torch.empty(image.shape[1:], dtype=torch.uint8, device=image.device)
    probabilities = None
    for box, logits in parts:
        classes[box] = scheme.decide(logits).reshape(box_shape(box))
        if temperature is not None:
            values = scheme.probabilities(logits, temperature)
            if probabilities is None:
                probabilities = values.new_empty((values.shape[1], *classes.shape))
            probabilities[(slice(None), *box)] = values.T.reshape(-1, *box_shape(box))
    return VolumePrediction(classes, probabilities, classes.numel())


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)
