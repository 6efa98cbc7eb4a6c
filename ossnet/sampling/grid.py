"""The working grid: every case of a study centered in one shape that the networks can halve.

Configurations ask for it, so torch loads only where there are volumes.
Letters: N points, X Y Z voxel axes in nibabel's order.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ossnet.models import OccupancyConfig

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

Shape = tuple[int, int, int]


def working_shape(largest: Sequence[int], *, multiple: int) -> Shape:
    """The smallest shape holding `largest` whose axes are multiples of `multiple`."""
    x, y, z = (-(-edge // multiple) * multiple for edge in largest)
    return x, y, z


def offset(shape: Sequence[int], working: Sequence[int]) -> Shape:
    """Voxels of frame before a centered volume on each axis (the larger half, as in the paper's code)."""
    x, y, z = (-(-(outer - inner) // 2) for inner, outer in zip(shape, working, strict=True))
    return x, y, z


def pad(volume: "Tensor", working: Sequence[int]) -> "Tensor":
    """Center `[..., X Y Z]` in a zero frame of the working shape."""
    from torch.nn import functional

    shape = volume.shape[-3:]
    before = offset(shape, working)
    widths = [
        (first, outer - inner - first) for first, inner, outer in zip(before, shape, working, strict=True)
    ]
    return functional.pad(volume, [width for pair in reversed(widths) for width in pair])


def coordinates(
    indices: "Int[Tensor, 'N 3'] | Float[Tensor, 'N 3']", working: Sequence[int]
) -> "Float[Tensor, 'N 3']":
    """Voxel indices of the working grid, or places between, in [-1, 1], voxel centers at both ends."""
    import torch

    last = torch.tensor([max(edge - 1, 1) for edge in working], dtype=torch.float32, device=indices.device)
    centered = torch.tensor([float(edge > 1) for edge in working], device=indices.device)
    return 2.0 * indices / last - centered


def encoder_grid(config: OccupancyConfig, working: Sequence[int]) -> Shape:
    """Cells of the encoder's last block, where the auxiliary head predicts."""
    x, y, z = (edge // config.encoder_downscale // 2 ** len(config.encoder_channels) for edge in working)
    return x, y, z
