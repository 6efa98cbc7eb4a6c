"""Overlays: three planes through a case, with image, label and prediction side by side.

Letters: X Y Z voxel axes in nibabel's order, RAS.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Integer, Real

from ossnet.output.atomic_write import atomic_write
from ossnet.output.figure import plain_text, png_bytes
from ossnet.output.palette import color

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PLANES = (("axial", 2), ("coronal", 1), ("sagittal", 0))


def draw_overlay(
    path: Path,
    *,
    image: Real[np.ndarray, "X Y Z"],
    label: Integer[np.ndarray, "X Y Z"],
    prediction: Integer[np.ndarray, "X Y Z"],
    spacing: Sequence[float],
    classes: Sequence[str],
    title: str,
) -> None:
    """Draw a PNG and write it atomically.

    The planes go through the middle of the label's foreground, or of the volume where there is none. The
    patient's right is on the left of the picture, as radiologists view it.

    Args:
        image: one modality.
        spacing: voxel size in mm.
        classes: names of the class indices 1, 2, ...
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 9.4), layout="constrained", facecolor="black")
    FigureCanvasAgg(figure)
    grid = figure.subplots(3, 3)
    low, high = np.percentile(image.astype(np.float32), (1, 99))
    center = _center(label)
    for row, (name, axis) in zip(grid, _PLANES, strict=True):
        flat = [_plane(volume, axis, center) for volume in (image, label, prediction)]
        width, height = (spacing[other] for other in range(3) if other != axis)
        for axes, overlay in zip(row, (None, flat[1], flat[2]), strict=True):
            axes.imshow(flat[0], cmap="gray", vmin=low, vmax=high, aspect=height / width, origin="lower")
            if overlay is not None:
                _tint(axes, overlay, len(classes), height / width)
            axes.set_xticks([])
            axes.set_yticks([])
        row[0].set_ylabel(plain_text(name), color="white")
    for axes, heading in zip(grid[0], ("image", "label", "prediction"), strict=True):
        axes.set_title(heading, color="white")
    figure.suptitle(plain_text(title), color="white")
    figure.legend(
        handles=_legend(classes),
        loc="outside lower center",
        ncols=len(classes),
        labelcolor="white",
        frameon=False,
    )
    atomic_write(path, png_bytes(figure, dpi=100))


def _center(label: np.ndarray) -> tuple[int, ...]:
    foreground = np.argwhere(label > 0)
    middle = np.median(foreground, axis=0) if len(foreground) else np.array(label.shape) // 2
    return tuple(middle.astype(int).tolist())


def _plane(volume: np.ndarray, axis: int, center: Sequence[int]) -> np.ndarray:
    """A slice with its second axis upwards; from the patient's left to right, or from back to front."""
    flat = volume.take(center[axis], axis=axis).T.astype(np.float32)
    return flat if axis == 0 else flat[:, ::-1]


def _colors(count: int) -> list[str]:
    return [color(position) for position in range(count)]


def _tint(axes: "Axes", overlay: np.ndarray, count: int, aspect: float) -> None:
    from matplotlib.colors import ListedColormap

    hidden = np.ma.masked_equal(overlay, 0)
    colors = ListedColormap(_colors(count))
    axes.imshow(
        hidden,
        cmap=colors,
        vmin=0.5,
        vmax=count + 0.5,
        alpha=0.55,
        aspect=aspect,
        origin="lower",
        interpolation="nearest",
    )


def _legend(classes: Sequence[str]) -> list[Any]:
    from matplotlib.patches import Patch

    return [
        Patch(color=shade, label=plain_text(name))
        for name, shade in zip(classes, _colors(len(classes)), strict=True)
    ]
