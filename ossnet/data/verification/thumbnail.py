"""A small picture of a case: one axial plane in gray, the label's outline in color.

Legend: X Y voxel axes along R and A.
"""

import base64
import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float32, Shaped

EDGE_PIXELS = 176
"""Number of pixels of the longer side: about 8 kB a picture, so that hundreds of cases fit on a page."""
COLORS = ("#ff5c5c", "#5cd65c", "#5c9dff", "#ffd24d", "#d67aff", "#4de1e1", "#ff9e4d", "#c2e04d")


def draw(
    image: Float32[np.ndarray, "X Y"],
    label: Shaped[np.ndarray, "X Y"] | None,
    *,
    values: Sequence[int],
    spacing: tuple[float, float],
) -> str:
    """A JPEG as a data URI; the patient's right is on the left, front is up, as radiologists view it.

    Args:
        values: the label values in the order of their colors.
        spacing: mm along R and A.
    """
    from PIL import Image, ImageColor

    sizes = np.array(image.shape) * np.array(spacing)
    width, height = np.maximum(1, np.rint(EDGE_PIXELS * sizes / sizes.max())).astype(int).tolist()
    gray = Image.fromarray(_window(_upright(image))).resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(gray.convert("RGB")).copy()
    for color, value in zip(COLORS * (1 + len(values) // len(COLORS)), values, strict=False):
        if label is not None and (label == value).any():
            inside = Image.fromarray(_upright(label == value)).resize(
                (width, height), Image.Resampling.NEAREST
            )
            pixels[_outline(np.asarray(inside))] = ImageColor.getrgb(color)
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "JPEG", quality=80, subsampling=0)  # halved colors would blur outlines
    return f"data:image/jpeg;base64,{base64.b64encode(sink.getvalue()).decode()}"


def _upright(plane: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(plane.T[::-1, ::-1])


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
