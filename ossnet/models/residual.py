"""The residual block of the encoder.

Letters: B batch, C channels in, O channels out, X Y Z voxel axes.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ossnet.models.kernels.convolution import convolve
from ossnet.models.kernels.fused import fused_activation
from ossnet.models.kernels.normalization import BatchNorm
from ossnet.models.kernels.pade import Pade
from ossnet.models.kernels.pooling import avg_pool_2x

_ROW = 512  # long enough for vector instructions
_CPU_SLAB = 1 << 20  # values of a feature map that is only passed through
_DEVICE_SLAB = 1 << 24
_FEWEST_PLANES = 8  # of a slab: two more are computed next to them


class ResidualBlock(nn.Module):
    """Two 3^3 convolutions with a halving between, and a 1^3 shortcut (spec section 3.1).

    The shortcut is pooled before its convolution, which gives the same values for an eighth of the work.
    Feature maps are kept channels-last, which convolutions on CPUs prefer by far.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.convolution1 = nn.Conv3d(in_channels, out_channels, 3, padding=1, bias=False)
        self.normalization1 = BatchNorm(out_channels)
        self.activation1 = Pade()
        self.convolution2 = nn.Conv3d(out_channels, out_channels, 3, padding=1, bias=False)
        self.normalization2 = BatchNorm(out_channels)
        self.shortcut = (
            nn.Identity()
            if in_channels == out_channels
            else nn.Conv3d(in_channels, out_channels, 1, bias=False)
        )
        self.activation2 = Pade()

    def forward(
        self, volume: Float[Tensor, "B C X Y Z"], *, exposed: bool = False, recompute: bool = False
    ) -> tuple[Float[Tensor, "B O x y z"], Float[Tensor, "B O X Y Z"] | None]:
        """Features at half the resolution.

        Args:
            exposed: return also those before the halving.
            recompute: compute the first convolution, the largest map, again in the backward pass instead of
                keeping it.

        Returns:
            The halved features, and the finer ones if `exposed`.
        """
        whole = exposed or self.training or torch.is_grad_enabled() or volume.shape[2] % 2
        fine = self._fine(volume, owns_gradient=not exposed, recompute=recompute) if whole else None
        hidden = convolve(self.convolution2, self._halved(volume) if fine is None else avg_pool_2x(fine))
        halved = normalize_activate(
            hidden,
            self.normalization2,
            self.activation2,
            residual=self.shortcut(avg_pool_2x(volume)),
            owns_gradient=not exposed,
        )
        return halved, fine if exposed else None

    def _fine(
        self, volume: Float[Tensor, "B C X Y Z"], *, owns_gradient: bool, recompute: bool
    ) -> Float[Tensor, "B O X Y Z"]:
        """Features at full resolution."""
        return normalize_activate(
            convolve(self.convolution1, volume),
            self.normalization1,
            self.activation1,
            owns_gradient=owns_gradient,
            recompute=_later(self.convolution1, volume) if recompute else None,
        )

    def _fine_planes(self, volume: Float[Tensor, "B C X Y Z"], planes: slice) -> Float[Tensor, "B O X Y Z"]:
        """Features at full resolution, of some planes along the first axis, without gradients."""
        start, stop, _ = planes.indices(volume.shape[2])
        first = max(start - 1, 0)
        hidden = convolve(self.convolution1, volume[:, :, first : stop + 1])
        hidden = hidden[:, :, start - first : stop - first]
        return normalize_activate(hidden, self.normalization1, self.activation1)

    def _halved(self, volume: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, "B O x y z"]:
        """Compute the halved hidden map a few planes at a time, so that the finest map never lives as a
        whole."""
        per_plane = self.convolution1.out_channels * volume[:, 0, 0].numel()
        slab = _CPU_SLAB if volume.device.type == "cpu" else _DEVICE_SLAB
        step = max(_FEWEST_PLANES, slab // per_plane // 2 * 2)
        starts = range(0, volume.shape[2], step)
        return torch.cat(
            [avg_pool_2x(self._fine_planes(volume, slice(start, start + step))) for start in starts], 2
        )


def normalize_activate(
    volume: Float[Tensor, "B C X Y Z"],
    normalization: BatchNorm,
    activation: Pade,
    *,
    residual: Float[Tensor, "B C X Y Z"] | None = None,
    owns_gradient: bool = False,
    recompute: Callable[[], Float[Tensor, "B C X Y Z"]] | None = None,
) -> Float[Tensor, "B C X Y Z"]:
    """Batch normalization, an added residual, the Pade unit; `owns_gradient` as in `fused_activation`.

    Without gradients the result may take the place of the volume. With `recompute`, which makes the volume
    again, it is not kept for the backward pass.
    """
    rows = _rows(volume)
    activated = fused_activation(
        rows,
        activation,
        normalization.standardization(rows),
        normalization.modulation(rows.shape[2] // volume.shape[1]),
        residual=None if residual is None else _rows(residual),
        owns_gradient=owns_gradient,
        donate_input=not torch.is_grad_enabled(),
        recompute=None if recompute is None else lambda: _rows(recompute()),
    )
    channels_last = activated.view(volume.shape[0], *volume.shape[2:], volume.shape[1])
    return channels_last.movedim(4, 1)


def _later(layer: nn.Conv3d, volume: Float[Tensor, "B C X Y Z"]) -> Callable[[], Float[Tensor, "B O X Y Z"]]:
    """A function that applies a convolution in the precision of now, whenever it is called."""
    device = volume.device.type
    dtype, enabled = torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)

    def apply() -> Tensor:
        with torch.no_grad(), torch.autocast(device, dtype, enabled=enabled, cache_enabled=False):
            return convolve(layer, volume)

    return apply


def _rows(volume: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, "B N W"]:
    """Voxels with their channels side by side, as many to a row as make it about `_ROW` long."""
    channels = volume.shape[1]
    voxels = volume[0, 0].numel()
    together = math.gcd(voxels, max(1, _ROW // channels))
    channels_last = volume.contiguous(memory_format=torch.channels_last_3d).movedim(1, 4)
    return channels_last.reshape(len(volume), voxels // together, together * channels)
