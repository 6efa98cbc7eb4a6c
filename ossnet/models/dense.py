"""The base of networks that decide all voxels of a grid at once: the U-Nets and those of installed packages.

Letters: B batch, C channels, K logits, X Y Z voxel axes in nibabel's order; 2-D networks have no Z.
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ossnet.models.configs import DenseConfig


class DenseNetwork(nn.Module):
    """A dense network for images of any size: zeros at the far ends pad what its levels cannot halve.

    A subclass gives `voxel_logits`; where that gives coarser levels' logits in training, they are supervised,
    too (`ossnet.training.losses.deep_supervision_loss`). Planning runs it on fake tensors, which have shapes
    and no values: it must not read values of tensors (`item`, `if tensor`).
    """

    def __init__(self, config: DenseConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, image: Float[Tensor, "B C *grid"]) -> Float[Tensor, "B K *grid"] | tuple[Tensor, ...]:
        """Logits of every voxel, `config.logits` of them; in training maybe with those of coarser levels.

        Raises:
            ValueError: wrong number of axes or channels, or an image too small for the depth.
        """
        self.check(image)
        grid, multiple = image.shape[2:], self.config.grid_multiple
        widths = [width for edge in reversed(grid) for width in (0, -edge % multiple)]
        logits = self.voxel_logits(functional.pad(image, widths))
        if isinstance(logits, Tensor):
            return _cropped(logits, grid, step=1)
        return tuple(_cropped(each, grid, step=2**level) for level, each in enumerate(logits))

    def voxel_logits(
        self, image: Float[Tensor, "B C *grid"]
    ) -> Float[Tensor, "B K *grid"] | tuple[Tensor, ...]:
        """Logits of every voxel of an image whose edges are multiples of `config.grid_multiple`.

        In training (`self.training`) it may be a tuple of these and of coarser levels' logits, each at half
        the resolution of the one before: cell i of an axis lies at voxel i times the level's step.
        """
        raise NotImplementedError

    def parts(self) -> dict[str, list[nn.Module]]:
        """The network's modules by the names under which their memory is reported."""
        return {"network": list(self.children())}

    def check(self, image: Tensor) -> None:
        """Reject an image of another number of axes or channels.

        Raises:
            ValueError: names what was expected.
        """
        axes, channels = self.config.spatial_dims, self.config.in_channels
        if image.ndim != axes + 2 or image.shape[1] != channels:
            msg = f"image: expected [batch, {channels}, {axes} axes], found shape {tuple(image.shape)}"
            raise ValueError(msg)


def _cropped(logits: Tensor, grid: Sequence[int], *, step: int) -> Tensor:
    """Logits of a level without the padding: those of every `step`-th voxel of the grid."""
    return logits[(slice(None), slice(None), *(slice(-(-edge // step)) for edge in grid))]
