"""A small picture of a case: three planes in gray, the label's outline in color.

Legend: X Y Z voxel axes along R, A and S; X Y those of a plane, along R and A, R and S, or A and S.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Real, Shaped, UInt8

from ossnet.output.palette import rgb

EDGE_PIXELS = 128
"""Number of pixels of the longest side: about 12 kB a picture, so that hundreds of cases fit on a page."""
_GAP_PIXELS = 4


@dataclass(frozen=True)
class Plane:
    """A plane through a case."""

    axis: int
    """The axis that it is perpendicular to: 0 of a sagittal, 1 of a coronal, 2 of an axial one."""
    image: Float32[np.ndarray, "X Y"]
    label: Shaped[np.ndarray, "X Y"] | None
    """Of the same extent, perhaps on another grid."""


def planes_through(
    image: Real[np.ndarray, "X Y Z"],
    label: Shaped[np.ndarray, "x y z"],
    *,
    like: Shaped[np.ndarray, "x y z"] | None = None,
) -> tuple[Plane, Plane, Plane]:
    """The axial, the coronal and the sagittal plane with most foreground; copies, so that no volume is kept.

    Args:
        image: one modality.
        label: of the same extent, on any grid.
        like: a label on that grid whose foreground chooses the planes; by default the label itself.
    """
    indices = fullest_planes(label if like is None else like)

    def plane(axis: int) -> Plane:
        position = (2 * indices[axis] + 1) * image.shape[axis] // (2 * label.shape[axis])
        return Plane(axis, image.take(position, axis).astype(np.float32), label.take(indices[axis], axis))

    return plane(2), plane(1), plane(0)


def fullest_planes(label: Shaped[np.ndarray, "X Y Z"]) -> tuple[int, int, int]:
    """Along each axis the plane with most foreground, or the middle ones where there is none."""
    counts = [np.zeros(size, np.int64) for size in label.shape]
    for position, slab in enumerate(label):
        inside = slab != 0
        counts[0][position] = np.count_nonzero(inside)
        counts[1] += np.count_nonzero(inside, axis=1)
        counts[2] += np.count_nonzero(inside, axis=0)
    if not counts[0].any():
        return middle_planes(label.shape)
    return int(counts[0].argmax()), int(counts[1].argmax()), int(counts[2].argmax())


def middle_planes(shape: Sequence[int]) -> tuple[int, int, int]:
    """The middle plane along each axis."""
    return shape[0] // 2, shape[1] // 2, shape[2] // 2


def draw(
    planes: Sequence[Plane],
    *,
    values: Sequence[int],
    spacing: tuple[float, float, float],
    edge: int = EDGE_PIXELS,
    tint: float = 0.0,
) -> str:
    """A JPEG as a data URI, the planes side by side in one scale.

    The patient's right is on the left and front or head are up, as radiologists view it.

    Args:
        values: the label values in the order of their colors.
        spacing: mm along R, A and S, of the label's voxels where there is one.
        edge: pixels of the longest side of a plane.
        tint: how much of its color there is inside an outline, from 0 to 1.
    """
    from PIL import Image

    sink = io.BytesIO()
    drawn = Image.fromarray(sheet(planes, values=values, spacing=spacing, edge=edge, tint=tint))
    drawn.save(sink, "JPEG", quality=80, subsampling=0)  # halved colors would blur outlines
    return f"data:image/jpeg;base64,{base64.b64encode(sink.getvalue()).decode()}"


def sheet(
    planes: Sequence[Plane],
    *,
    values: Sequence[int],
    spacing: tuple[float, float, float],
    edge: int = EDGE_PIXELS,
    tint: float = 0.0,
) -> UInt8[np.ndarray, "Y X 3"]:
    """The picture of `draw` as colors of its pixels."""
    sizes = [
        np.array((plane.image if plane.label is None else plane.label).shape)
        * [spacing[axis] for axis in range(3) if axis != plane.axis]
        for plane in planes
    ]
    scale = edge / max(float(size.max()) for size in sizes)
    panes = [
        _pane(plane, np.maximum(1, np.rint(scale * size)).astype(int), values, tint)
        for plane, size in zip(planes, sizes, strict=True)
    ]
    height = max(len(pane) for pane in panes)
    drawn = np.zeros((height, sum(pane.shape[1] + _GAP_PIXELS for pane in panes) - _GAP_PIXELS, 3), np.uint8)
    left = 0
    for pane in panes:
        top = (height - len(pane)) // 2
        drawn[top : top + len(pane), left : left + pane.shape[1]] = pane
        left += pane.shape[1] + _GAP_PIXELS
    return drawn


def _pane(plane: Plane, pixels: np.ndarray, values: Sequence[int], tint: float) -> UInt8[np.ndarray, "Y X 3"]:
    from PIL import Image

    size = int(pixels[0]), int(pixels[1])
    mirrored = plane.axis != 0  # seen from the left, the front is on the right
    gray = Image.fromarray(_window(_upright(plane.image, mirrored))).resize(size, Image.Resampling.BILINEAR)
    drawn = np.asarray(gray.convert("RGB")).copy()
    for position, value in enumerate(values):
        if plane.label is not None and (plane.label == value).any():
            mask = Image.fromarray(_upright(plane.label == value, mirrored))
            inside, color = np.asarray(mask.resize(size, Image.Resampling.NEAREST)), np.array(rgb(position))
            drawn[inside] = ((1 - tint) * drawn[inside] + tint * color).astype(np.uint8)
            drawn[_outline(inside)] = color
    return drawn


def _upright(plane: np.ndarray, mirrored: bool) -> np.ndarray:
    return np.ascontiguousarray(plane.T[::-1, ::-1] if mirrored else plane.T[::-1])


def _window(plane: np.ndarray) -> np.ndarray:
    """The middle 98 % of the finite values in 8 bits."""
    finite = plane[np.isfinite(plane)]
    if not finite.size:
        return np.zeros(plane.shape, np.uint8)
    low, high = np.percentile(finite, (1, 99))
    if high <= low:
        low, high = float(finite.min()), float(finite.max())
    scaled = (np.nan_to_num(plane, nan=low, posinf=high, neginf=low) - low) / max(high - low, 1e-20)
    return (np.clip(scaled, 0, 1) * 255).astype(np.uint8)


def _outline(inside: Bool[np.ndarray, "X Y"]) -> Bool[np.ndarray, "X Y"]:
    """Pixels of a mask that have a neighbor outside it."""
    padded = np.pad(inside, 1)
    core = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return inside & ~core
