"""Count the multiply-accumulates of an exact evaluation of an occupancy network.

What counts, and what does not:

- Matrix products and convolutions, evaluated directly. Normalization, activations, pooling, the loss and the
  optimizer are left out.
- Multiplications by the zeros of a "same" padding are left out; a 7^3 kernel on a 7^3 patch has 37^3 others
  (343^2 with them). What transforms the patches, as `ossnet.models.kernels.patches.toeplitz` does, can do
  with fewer.
- What all points of a volume share (the latent's part of the first layer, gains and offsets) counts once a
  volume; the 1^3 shortcuts act on the halved grid. Both are exact.
- A backward pass is one such product for the weights' gradient and one for the input's, where the input needs
  one: images, patches and coordinates do not.

Letters: X Y Z voxel axes, L latent length, W decoder width.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

from ossnet.models import OccupancyConfig


@dataclass(frozen=True)
class Operations:
    """Multiply-accumulates of a training step."""

    forward: int = 0
    backward: int = 0

    def __add__(self, other: "Operations") -> "Operations":
        return Operations(self.forward + other.forward, self.backward + other.backward)

    def __mul__(self, times: int) -> "Operations":
        return Operations(self.forward * times, self.backward * times)

    @property
    def total(self) -> int:
        """Operations of the forward and the backward pass."""
        return self.forward + self.backward


def training_operations(
    model: OccupancyConfig, grid: Sequence[int], *, volumes: int, points: int
) -> dict[str, Operations]:
    """Count the operations of a training step, by part of the network.

    Args:
        grid: X, Y, Z of the working volume.
        volumes: of the batch.
        points: of each volume.
    """
    nothing = Operations()
    decoder = sum(_per_volume(model), nothing) + sum(_per_point(model), nothing) * points
    return {
        "encoder": sum(_encoder(model, grid), nothing) * volumes,
        "patch_encoder": sum(_patch_encoder(model), nothing) * (volumes * points),
        "decoder": decoder * volumes,
    }


def _encoder(model: OccupancyConfig, grid: Sequence[int]) -> Iterator[Operations]:
    """Residual blocks, skips, latent map and auxiliary head, for one volume."""
    edges = [edge // model.encoder_downscale for edge in grid]
    before, gathered = model.in_channels, 0
    for level, width in enumerate(model.encoder_channels):
        inner = level > 0
        halved = [-(-edge // 2) for edge in edges]
        yield _convolution(edges, 3, before, width, input_gradient=inner)
        yield _convolution(halved, 3, width, width)
        if before != width:
            yield _convolution(halved, 1, before, width, input_gradient=inner)
        if model.skip_connections:
            narrow = max(width // 2, 1)
            gathered += narrow
            yield _convolution(model.latent_grid, 5, width, narrow)
        before, edges = width, halved
    yield _convolution(model.latent_grid, 5, gathered or before, model.latent_channels)
    if model.auxiliary_head:
        yield _convolution(edges, 5, before, model.classes)
    if model.pyramid_channels:
        yield from _pyramid(model, grid)


def _pyramid(model: OccupancyConfig, grid: Sequence[int]) -> Iterator[Operations]:
    """Convolutions of each level of the feature pyramid, for one volume; the coarser one's act before it is
    enlarged."""
    edges = [edge // model.encoder_downscale for edge in grid]
    widths = model.query_widths
    for before, width, coarser in zip(model.map_widths, widths, (*widths[1:], None), strict=True):
        yield _convolution(edges, 1, before, width)
        yield _convolution(edges, 3, width, width)
        edges = [-(-edge // 2) for edge in edges]
        if coarser is not None:
            yield _convolution(edges, 1, coarser, width)


def _patch_encoder(model: OccupancyConfig) -> Iterator[Operations]:
    """Count two convolutions as wide as the patch, for one point."""
    if model.patch_channels:
        edges, hidden = [model.patch_edge] * 3, max(model.patch_channels // 2, 1)
        yield _convolution(edges, model.patch_edge, model.patch_channels, hidden, input_gradient=False)
        yield _convolution(edges, model.patch_edge, hidden, 1)


def _per_point(model: OccupancyConfig) -> Iterator[Operations]:
    """The decoder's linear layers, without what the volume gives."""
    width = model.decoder_width
    first_layer_and_shortcut = 2
    yield _product(3 * width, input_gradient=False) * first_layer_and_shortcut
    yield _product(model.point_features * width) * first_layer_and_shortcut
    yield _product(width * width) * (2 * model.decoder_blocks - 1)
    yield _product(width * model.outputs)


def _per_volume(model: OccupancyConfig) -> Iterator[Operations]:
    """The latent's part of first layer and shortcut, and two gains and two offsets a block."""
    yield _product(model.latent_length * model.decoder_width) * (2 + 4 * model.decoder_blocks)


def _convolution(
    edges: Sequence[int], kernel: int, inputs: int, outputs: int, *, input_gradient: bool = True
) -> Operations:
    taps = prod(_taps(edge, kernel) for edge in edges)
    return _product(taps * inputs * outputs, input_gradient=input_gradient)


def _taps(edge: int, kernel: int) -> int:
    """Pairs of an output and an input that an odd kernel links along an axis."""
    reach = kernel // 2
    return sum(min(place + reach, edge - 1) - max(place - reach, 0) + 1 for place in range(edge))


def _product(count: int, *, input_gradient: bool = True) -> Operations:
    return Operations(count, 2 * count if input_gradient else count)
