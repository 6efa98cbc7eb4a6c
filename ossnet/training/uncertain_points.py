"""The points where the network is least sure, chosen among candidates (as PointRend does, arXiv 1912.08193).

Letters: B batch, K logits, N points, M points that are kept.
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ossnet.sampling.batch import PointBatch


def select_uncertain(network: nn.Module, batch: PointBatch) -> PointBatch:
    """The batch without the candidates that the network is surest of.

    They are decided as in evaluation, without gradients, so that no running statistics move.

    Args:
        network: an occupancy network, not wrapped for data parallelism.
    """
    if not batch.candidates:
        return batch
    kept = batch.coordinates.shape[1] - batch.candidates
    training = network.training
    network.eval()
    with torch.no_grad():
        logits = network(
            batch.encoder_input,
            batch.coordinates[:, kept:],
            replace(
                batch,
                patches=None if batch.patches is None else batch.patches[:, kept:],
                mid_range=None if batch.mid_range is None else batch.mid_range[:, kept:],
            ).network_patches,
            batch.grid_shape,
        ).logits
    network.train(training)
    exclusive = batch.labels.ndim == 2 and logits.shape[-1] > 1
    least = uncertainty(logits, exclusive=exclusive)
    chosen = kept + least.topk(batch.chosen, dim=1).indices
    return replace(
        batch,
        coordinates=_kept(batch.coordinates, kept, chosen),
        patches=None if batch.patches is None else _kept(batch.patches, kept, chosen),
        mid_range=None if batch.mid_range is None else _kept(batch.mid_range, kept, chosen),
        labels=_kept(batch.labels, kept, chosen),
        distances=None if batch.distances is None else _kept(batch.distances, kept, chosen),
        candidates=0,
        chosen=0,
    )


def uncertainty(logits: Float[Tensor, "B N K"], *, exclusive: bool) -> Float[Tensor, "B N"]:
    """Greater where the decision is nearer: of the two likeliest classes, or of any region on its own."""
    if not exclusive:
        return -logits.abs().amin(-1)
    first, second = logits.topk(2, dim=-1).values.unbind(-1)
    return second - first


def _kept(values: Tensor, first: int, chosen: Tensor) -> Tensor:
    """The first ones of a volume's points, and the chosen ones."""
    volumes = torch.arange(len(values), device=values.device)[:, None]
    with torch.autocast(values.device.type, enabled=False):  # on CPUs it refuses to join half floats
        return torch.cat([values[:, :first], values[volumes, chosen]], 1)
