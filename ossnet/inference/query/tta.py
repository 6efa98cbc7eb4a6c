"""Flips as test-time augmentation: a volume is seen in several mirrors, and their probabilities are averaged.

Letters: C channels, K logits, N points, X Y Z voxel axes in nibabel's order.
"""

from collections.abc import Sequence
from itertools import combinations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ossnet.data.labels.scheme import ClassScheme
from ossnet.inference.config import Axis
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
    """A volume and its mirror images, queried together: logits are those of the mean probability.

    Args:
        working: the working shape of the training.
        chunk: points to decode at once, at most.
        grid: the voxels to decide, where they are not the image's own.
        flips: the axes to flip, in every combination.
    """

    def __init__(
        self,
        network: OccupancyNetwork,
        image: Float[Tensor, "C X Y Z"],
        *,
        working: Shape | None,
        chunk: int,
        grid: QueryGrid | None = None,
        flips: Sequence[Axis],
    ) -> None:
        super().__init__(network, image, working=working, chunk=chunk, grid=grid)
        self._scheme = ClassScheme.of(network.config)
        shape = image.shape[1:]
        grid = grid or QueryGrid.of_image(shape)
        self._mirrored = [
            EncodedVolume(
                network,
                image.flip([1 + axis for axis in axes]),
                working=working,
                chunk=chunk,
                grid=grid.mirrored(axes, shape),
            )
            for axes in mirrors(flips)[1:]
        ]

    def box(self, box: Box) -> Float[Tensor, "N K"]:
        """Mean logits of the voxels of a box, in the order of `indices`."""
        # The volume's own `box` may bypass `logits`, and so the mirror images.
        return self.logits(indices(box, self._offset.device))

    def logits(self, voxels: Int[Tensor, "N 3"]) -> Float[Tensor, "N K"]:
        """Mean logits of some voxels, all at once."""
        parts = [super().logits(voxels), *(each.logits(voxels) for each in self._mirrored)]
        return self._scheme.mean_logits(parts)

    def prior_at(self, voxels: Int[Tensor, "N 3"]) -> Float[Tensor, "N K"]:
        """The largest of the coarse predictions for the cells that voxels lie in."""
        priors = [super().prior_at(voxels), *(each.prior_at(voxels) for each in self._mirrored)]
        return torch.stack(priors).amax(0)

    def prior_between(self, voxels: Int[Tensor, "N 3"]) -> Float[Tensor, "N K"]:
        """The mean of the interpolated coarse predictions, as decisions are made by the mean."""
        priors = [super().prior_between(voxels), *(each.prior_between(voxels) for each in self._mirrored)]
        return torch.stack(priors).mean(0)
