"""Distances between the surfaces of two masks, in mm, by surface elements; a fixed policy for empty masks.

A surface element lies at a corner that eight voxels share, where some of them are inside the mask and some
are not; its area is that of the marching-cubes triangles of the eight. This is the definition of Nikolov et
al. (2021), whose reference is the package `surface-distance`: counting voxels instead weighs a surface by how
it lies to the axes.

Letters: X Y Z voxel axes in nibabel's order; S surface elements.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
from jaxtyping import Bool, Float, UInt8

PERCENTILE = 95.0
_ALL_INSIDE = 255


@dataclass(frozen=True)
class SurfaceMetrics:
    """Distances between two surfaces.

    Two empty masks are at 0 mm and score 1, where the reference has no value. One empty mask is an image
    diagonal away, as in the BraTS challenges, where the reference has infinity, and scores 0.
    """

    hd95_mm: float
    """Distance within which 95 % of one surface's area lies from the other, the larger of both directions."""
    nsd: float
    """Fraction of the area of both surfaces within the tolerance of the other (surface Dice)."""


def surface_measures(
    prediction: Bool[np.ndarray, "X Y Z"],
    label: Bool[np.ndarray, "X Y Z"],
    spacing: Sequence[float],
    *,
    tolerance_mm: float,
) -> SurfaceMetrics:
    """HD95 and NSD of two masks on one grid; beyond it is background.

    Both have the reference's arithmetic, to the last bit: where 95 % of an area is met exactly, as by 20
    equal lesions of which one is moved, rounding decides which distance is the percentile. The memory needed
    is about 15 bytes for each voxel of the box that holds both masks.

    Args:
        spacing: mm along each axis.
        tolerance_mm: the distance within which surfaces agree.

    Raises:
        ValueError: the shapes differ.
    """
    if prediction.shape != label.shape:
        msg = f"expected prediction and label of one shape, found {prediction.shape} and {label.shape}"
        raise ValueError(msg)
    if not (prediction.any() and label.any()):
        same = not (prediction.any() or label.any())
        diagonal = math.hypot(*(edge * size for edge, size in zip(label.shape, spacing, strict=True)))
        return SurfaceMetrics(0.0 if same else diagonal, float(same))
    areas = _areas((float(spacing[0]), float(spacing[1]), float(spacing[2])))
    one, other = (_surface(mask, areas) for mask in _cut(prediction, label))
    there, back = _distances(one, other, spacing), _distances(other, one, spacing)
    near = there.area_within(tolerance_mm) + back.area_within(tolerance_mm)
    return SurfaceMetrics(
        hd95_mm=max(there.percentile(PERCENTILE), back.percentile(PERCENTILE)),
        nsd=near / (there.area + back.area),
    )


@dataclass(frozen=True)
class _Surface:
    """The elements of a mask's surface."""

    corners: Bool[np.ndarray, "X Y Z"]
    """Where they are."""
    areas: Float[np.ndarray, "S"]
    """Area of each in square mm, in the order of the corners."""


def _surface(mask: Bool[np.ndarray, "X+1 Y+1 Z+1"], areas: Float[np.ndarray, "256"]) -> _Surface:
    codes = _corner_codes(mask)
    corners = (codes != 0) & (codes != _ALL_INSIDE)
    return _Surface(corners, areas[codes[corners]])


@dataclass(frozen=True)
class _SurfaceDistances:
    """The elements of a surface, by their distance from another one."""

    mm: Float[np.ndarray, "S"]
    """Distances, rising."""
    areas: Float[np.ndarray, "S"]
    """Area of each element in square mm."""

    @property
    def area(self) -> float:
        return float(self.areas.sum())

    def area_within(self, mm: float) -> float:
        """Area of the elements at most so far away."""
        return float(self.areas[self.mm <= mm].sum())

    def percentile(self, percent: float) -> float:
        """Distance of the element with which the nearer ones have so much of the area."""
        shares = np.cumsum(self.areas) / self.areas.sum()
        reached = int(np.searchsorted(shares, percent / 100))
        return float(self.mm[min(reached, len(self.mm) - 1)])


def _distances(surface: _Surface, other: _Surface, spacing: Sequence[float]) -> _SurfaceDistances:
    """The distances of a surface's elements from another surface's."""
    from scipy.ndimage import distance_transform_edt

    # The distances of all corners would take three times the memory of the places of the nearest elements.
    places = distance_transform_edt(~other.corners, spacing, return_distances=False, return_indices=True)
    voxels = places[:, surface.corners] - np.array(np.nonzero(surface.corners))
    steps = voxels * np.array(spacing, np.float64)[:, None]
    mm = np.sqrt(np.square(steps).sum(0))
    order = np.lexsort((surface.areas, mm))
    return _SurfaceDistances(mm[order], surface.areas[order])


def _corner_codes(mask: Bool[np.ndarray, "X Y Z"]) -> UInt8[np.ndarray, "X-1 Y-1 Z-1"]:
    """Which of the eight voxels around each corner are inside: a bit each, the first voxel's the highest."""
    codes = np.zeros([edge - 1 for edge in mask.shape], np.uint8)
    for bit, starts in zip(range(7, -1, -1), product((0, 1), repeat=3), strict=True):
        window = tuple(slice(start, start + edge) for start, edge in zip(starts, codes.shape, strict=True))
        codes |= mask[window].astype(np.uint8) << bit
    return codes


@cache
def _areas(spacing: tuple[float, float, float]) -> Float[np.ndarray, "256"]:
    """Area in square mm of the surface through eight voxels, by their code."""
    from monai.metrics.utils import _get_neighbour_code_to_normals_table  # its table of areas is float32

    x, y, z = spacing
    # A normal for each triangle, as long as its area.
    normals = np.asarray(_get_neighbour_code_to_normals_table(), np.float64)
    scaled = normals * (y, x, x) * (z, z, y)
    return np.array([sum(map(np.linalg.norm, triangles)) for triangles in scaled], np.float64)


def _cut(*masks: Bool[np.ndarray, "X Y Z"]) -> list[Bool[np.ndarray, "X Y Z"]]:
    """The box that holds both, with a rim of background."""
    either = np.logical_or(*masks)
    box = []
    for axis in range(3):
        held = np.flatnonzero(either.any(tuple(other for other in range(3) if other != axis)))
        box.append(slice(held[0], held[-1] + 1))
    return [np.pad(mask[tuple(box)], 1) for mask in masks]
