"""Flips as test-time augmentation: a volume is seen in several mirrors, and their probabilities are averaged.

Letters: C channels, K logits, N points, X Y Z voxel axes in nibabel's order.
"""

from collections.abc import Sequence
from itertools import combinations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ossnet.inference.config import Axis
from ossnet.inference.query.activation import mean_logits
from ossnet.inference.query.boxes import Box, indices
from ossnet.inference.query.encoded_volume import EncodedVolume
from ossnet.inference.query.grid import QueryGrid
from ossnet.models import OccupancyNetwork
from ossnet.sampling.grid import Shape

_AXES: tuple[Axis, ...] = ("R", "A", "S")


def mirrors(axes: Sequence[Axis]) -> list[tuple[int, ...]]:
    """Every combination of axes to flip, from none to all."""
    every = sorted({_AXES.index(axis) for axis in axes})
    return [each for count in range(len(every) + 1) for each in combinations(every, count)]


class FlipEnsemble(EncodedVolume):
    """A volume and its mirror images, decided together: logits are of the mean probability."""

    def __init__(
        self,
        network: OccupancyNetwork,
        image: Float[Tensor, "C X Y Z"],
        *,
        working: Shape | None,
        chunk: int,
        asked: QueryGrid | None = None,
        flips: Sequence[Axis],
    ) -> None:
        super().__init__(network, image, working=working, chunk=chunk, asked=asked)
        self._overlapping = network.config.overlapping
        shape = image.shape[1:]
        grid = asked or QueryGrid.of_image(shape)
        self._mirrored = [
            EncodedVolume(
                network,
                image.flip([1 + axis for axis in axes]),
                working=working,
                chunk=chunk,
                asked=grid.mirrored(axes, shape),
            )
            for axes in mirrors(flips)[1:]
        ]

    def box(self, box: Box) -> Float[Tensor, "N K"]:
        """As of the volume itself."""
        return self.predict_classes(
            indices(box, self._frame.device)
        )  # its own box would ask `predict_classes`, mirrors and all

    def predict_classes(self, voxels: Int[Tensor, "N 3"]) -> Float[Tensor, "N K"]:
        """As of the volume itself."""
        return self._mean(
            [super().predict_classes(voxels), *(each.predict_classes(voxels) for each in self._mirrored)]
        )

    def prior_at(self, voxels: Int[Tensor, "N 3"]) -> Float[Tensor, "N K"]:
        """The largest of all."""
        priors = [super().prior_at(voxels), *(each.prior_at(voxels) for each in self._mirrored)]
        return torch.stack(priors).amax(0)

    def prior_between(self, voxels: Int[Tensor, "N 3"]) -> Float[Tensor, "N K"]:
        """The mean of all, as of the decisions."""
        priors = [super().prior_between(voxels), *(each.prior_between(voxels) for each in self._mirrored)]
        return torch.stack(priors).mean(0)

    def _mean(self, logits: Sequence[Tensor]) -> Tensor:
        return mean_logits(logits, overlapping=self._overlapping)
