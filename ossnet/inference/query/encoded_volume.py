"""An occupancy network queried about voxels of one volume: encode once, then decode boxes or points.

Letters: C channels, K logits or foreground classes, M N points, X Y Z voxel axes in nibabel's order.
"""

from collections.abc import Iterator
from itertools import islice

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from ossnet.inference.query.boxes import Box, BoxPatches, boxes, indices
from ossnet.inference.query.grid import QueryGrid, interpolate_patches, prediction_grid, resample_image
from ossnet.models import OccupancyNetwork
from ossnet.models.kernels._fake import is_fake
from ossnet.sampling.downscale import downscale_planes
from ossnet.sampling.grid import Shape, coordinates, offset


class EncodedVolume:
    """A volume whose voxels can be decided in any order.

    The encoder sees the volume in the frame it was trained in; patches read zero beyond the volume, as in
    training. Voxels are those of the volume, or of another grid laid over it.

    Args:
        working: the working shape of the training.
        chunk: points to decode at once, at most.
        grid: the voxels to decide, where they are not the image's own.
    """

    def __init__(
        self,
        network: OccupancyNetwork,
        image: Float[Tensor, "C X Y Z"],
        *,
        working: Shape | None,
        chunk: int,
        grid: QueryGrid | None = None,
    ) -> None:
        config = network.config
        own = QueryGrid.of_image(image.shape[1:])
        self._image = image
        self._grid = grid or own
        self._between = self._grid != own
        self.shape: Shape = self._grid.shape
        self._network = network
        self._chunk = chunk
        self._frame_shape = prediction_grid(config, own.shape, working)
        seen = downscale_planes(image.unbind(1), self._frame_shape, config.encoder_downscale)
        self._latent = network.encode(seen[None])
        self._offset = torch.tensor(offset(own.shape, self._frame_shape), device=image.device)
        coarse = self._latent.auxiliary
        self.prior = None if coarse is None else coarse[0].float().sigmoid()
        """Probability that a coarse cell of the frame holds a class; None without the auxiliary head."""
        self.uses_patches = bool(config.patch_channels)
        """Whether a decision depends on single voxels, so that it may change from one to the next."""
        self.n_queried = 0
        """Voxels decoded so far."""
        self._patches = None
        if config.patch_channels:
            self._patches = BoxPatches(
                image, edge=config.patch_edge, local=config.local_patch, mid_range=config.mid_range_patch
            )

    @property
    def image(self) -> Float[Tensor, "C X Y Z"]:
        """The image on the grid of the voxels that are queried."""
        return resample_image(self._image, self._grid) if self._between else self._image

    def boxes(self) -> Iterator[tuple[Box, Float[Tensor, "N K"]]]:
        """Logits of every voxel, in boxes of at most a chunk; on fake tensors the first two stand for all."""
        every = boxes(self.shape, self._chunk)
        for box in islice(every, 2) if is_fake(self._image) else every:
            yield box, self.box(box)

    def box(self, box: Box) -> Float[Tensor, "N K"]:
        """Logits of the voxels of a box, in the order of `indices`."""
        voxels = indices(box, self._offset.device)
        if self._between or self._patches is None:
            return self.logits(voxels)
        return self._decode(self._grid.positions(voxels), self._patches.gather_box(box))

    def points(self, voxels: Int[Tensor, "N 3"]) -> Iterator[tuple[Int[Tensor, "M 3"], Float[Tensor, "M K"]]]:
        """Logits of some voxels, at most a chunk at once."""
        for part in voxels.split(self._chunk):
            yield part, self.logits(part)

    def logits(self, voxels: Int[Tensor, "N 3"]) -> Float[Tensor, "N K"]:
        """Logits of some voxels, all at once."""
        positions, patches = self._grid.positions(voxels), None
        if self._patches is not None and self._between:
            axes = self._grid.between
            patches = interpolate_patches(self._patches, positions, self._image.shape[1:], axes)
        elif self._patches is not None:
            patches = self._patches.gather(voxels)
        return self._decode(positions, patches)

    def prior_at(self, voxels: Int[Tensor, "N 3"]) -> Float[Tensor, "N K"]:
        """The coarse prediction for the cells that voxels lie in; beyond the end that of the last one."""
        assert self.prior is not None
        cells = self.prior.shape[1:]
        places = (self._grid.positions(voxels) + 0.5).floor().long() + self._offset
        edges = zip(places.unbind(1), cells, self._frame_shape, strict=True)
        x, y, z = ((place * count // edge).clamp(0, count - 1) for place, count, edge in edges)
        return self.prior[:, x, y, z].T

    @property
    def prior_edge(self) -> int:
        """Voxels along the shortest edge of a cell of the coarse prediction, at least; 1 without one."""
        if self.prior is None:
            return 1
        return min(edge // cells for edge, cells in zip(self._frame_shape, self.prior.shape[1:], strict=True))

    def prior_between(self, voxels: Int[Tensor, "N 3"]) -> Float[Tensor, "N K"]:
        """The coarse prediction interpolated; as in the paper the outer cells lie at the frame's border."""
        assert self.prior is not None
        points = coordinates(self._grid.positions(voxels) + self._offset, self._frame_shape)
        points = points.flip(1)[None, :, None, None]
        return functional.grid_sample(self.prior[None], points, align_corners=True)[0, :, :, 0, 0].T

    def _decode(self, positions: Float[Tensor, "N 3"], patches: Tensor | None) -> Tensor:
        self.n_queried += len(positions)
        batch = None if patches is None else patches[None]
        points = coordinates(positions + self._offset, self._frame_shape)
        return self._network.decode(self._latent, points[None], batch, self._frame_shape)[0]
