"""An occupancy network asked about voxels of one volume: encode once, then decode boxes or points.

Letters: C channels, K logits or foreground classes, N points, X Y Z voxel axes in nibabel's order.
"""

from collections.abc import Iterator
from itertools import islice

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional

from ossnet.inference.boxes import Box, BoxPatches, boxes, indices
from ossnet.inference.grid import prediction_grid
from ossnet.models import OccupancyNetwork
from ossnet.sampling.grid import Shape, coordinates, downscale, offset, pad

_CPU_POINTS = 1 << 12


class EncodedVolume:
    """A volume whose voxels can be decided in any order.

    The encoder sees the volume in the frame it was trained in; patches read zero beyond the volume, as in
    training.
    """

    def __init__(
        self,
        network: OccupancyNetwork,
        image: Float[Tensor, "C X Y Z"],
        *,
        working: Shape | None,
        chunk: int,
    ) -> None:
        config = network.config
        self.shape: Shape = (image.shape[1], image.shape[2], image.shape[3])
        self._network = network
        self._chunk = chunk
        self._grid = prediction_grid(config, self.shape, working)
        self._latent = network.encode(downscale(pad(image, self._grid), config.encoder_downscale)[None])
        self._frame = torch.tensor(offset(self.shape, self._grid), device=image.device)
        coarse = self._latent.auxiliary
        self.prior = None if coarse is None else coarse[0].float().sigmoid()
        """Probability that a coarse cell of the frame holds a class; None without the auxiliary head."""
        self.sees_voxels = bool(config.patch_channels)
        """Whether a decision depends on single voxels, so that it may change from one to the next."""
        self.asked = 0
        """Voxels decoded so far."""
        self._patches = None
        if config.patch_channels:
            self._patches = BoxPatches(
                image, edge=config.patch_edge, local=config.local_patch, mid_range=config.mid_range_patch
            )

    def boxes(self) -> Iterator[tuple[Box, Float[Tensor, "N K"]]]:
        """Logits of every voxel, in boxes of at most a chunk; on fake tensors the first two stand for all."""
        every = boxes(self.shape, self._chunk)
        for box in islice(every, 2) if isinstance(self._frame, FakeTensor) else every:
            patches = None if self._patches is None else self._patches.gather_box(box)
            yield box, self._decode(indices(box, self._frame.device), patches)

    def points(self, voxels: Int[Tensor, "N 3"]) -> Iterator[tuple[Int[Tensor, "M 3"], Float[Tensor, "M K"]]]:
        """Logits of some voxels, at most a chunk at once; on a CPU more than a few thousand gain nothing."""
        at_once = min(self._chunk, _CPU_POINTS) if voxels.device.type == "cpu" else self._chunk
        for part in voxels.split(at_once):
            patches = None if self._patches is None else self._patches.gather(part)
            yield part, self._decode(part, patches)

    def prior_at(self, voxels: Int[Tensor, "N 3"]) -> Float[Tensor, "N K"]:
        """The coarse prediction for the cells that voxels lie in; beyond the end that of the last one."""
        assert self.prior is not None
        cells = self.prior.shape[1:]
        edges = zip((voxels + self._frame).unbind(1), cells, self._grid, strict=True)
        x, y, z = ((place * count // edge).clamp(max=count - 1) for place, count, edge in edges)
        return self.prior[:, x, y, z].T

    def prior_between(self, voxels: Int[Tensor, "N 3"]) -> Float[Tensor, "N K"]:
        """The coarse prediction interpolated; as in the paper the outer cells lie at the frame's border."""
        assert self.prior is not None
        places = coordinates(voxels + self._frame, self._grid).flip(1)[None, :, None, None]
        return functional.grid_sample(self.prior[None], places, align_corners=True)[0, :, :, 0, 0].T

    def _decode(self, voxels: Tensor, patches: Tensor | None) -> Tensor:
        self.asked += len(voxels)
        places = coordinates(voxels + self._frame, self._grid)
        given = None if patches is None else patches[None]
        return self._network.decode(self._latent, places[None], given, self._grid)[0]
