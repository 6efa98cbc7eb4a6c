"""Configuration of sampling. Light: no torch here."""

from dataclasses import dataclass
from typing import Literal

from ossnet.errors import UserError


@dataclass(frozen=True)
class SamplingConfig:
    """How training data is drawn from a case.

    The shares and the uniform rest add to one.
    """

    points: int = 2**14
    """Points a volume and step (the paper: 2^14)."""
    border_fraction: float = 0.0
    """Share of the points within `border_width` of the foreground's border (the paper: 0.5 for LiTS)."""
    foreground_fraction: float = 0.0
    """Share of the points inside the foreground, as many in each class that a case has."""
    gaussian_fraction: float = 0.0
    """Share of the points at random voxels of the foreground's surface, moved by a Gaussian."""
    uncertain_fraction: float = 0.0
    """Share of the points where the network is least sure among `uncertain_candidates` times as many."""
    border_width: float = 6.0
    """Distance that the border reaches to either side."""
    border_unit: Literal["mm", "voxels"] = "mm"
    """mm: distance to the nearest voxel of the other kind; voxels: the paper's, along the largest axis."""
    gaussian_width: float = 3.0
    """Standard deviation in mm along each axis."""
    uncertain_candidates: int = 3
    """Candidates, drawn uniformly, for each point kept (PointRend: 3)."""
    distance_reach: float = 10.0
    """Largest distance in mm that a network's distance head distinguishes."""
    crop_shape: tuple[int, int, int] | None = None
    """What a dense network trains on; nothing: the whole working volume."""
    slices: int = 16
    """Slices a volume and step for a 2-D network."""
    working_shape: tuple[int, int, int] | None = None
    """The grid every case is centered in; nothing: the study's largest case, rounded up for the network."""
    image_dtype: Literal["float16", "float32"] = "float16"
    """Precision of local patches: that of the store's voxels; of a store of whole numbers always float32."""

    def __post_init__(self) -> None:
        """Reject what cannot be drawn.

        Raises:
            UserError: names the field.
        """
        for name in ("points", "uncertain_candidates"):
            if getattr(self, name) < 1:
                raise UserError(name, expected="at least 1", found=str(getattr(self, name)))
        for name in ("distance_reach", "border_width", "gaussian_width"):
            if not 0 < getattr(self, name) < float("inf"):
                raise UserError(name, expected="a number above 0", found=str(getattr(self, name)))
        if self.border_unit == "voxels" and self.border_width != int(self.border_width):
            found = str(self.border_width)
            raise UserError("border_width", expected="a whole number of voxels", found=found)
        names = ("border_fraction", "foreground_fraction", "gaussian_fraction", "uncertain_fraction")
        fractions = [getattr(self, name) for name in names]
        if not (min(fractions) >= 0 and sum(fractions) <= 1 + 1e-9):  # a sum of floats may round up
            found = ", ".join(map(str, fractions))
            raise UserError(
                ", ".join(names), expected="positive fractions of at most 1 together", found=found
            )

    @property
    def uncertain_points(self) -> int:
        """Points kept of `candidates`."""
        return int(self.points * self.uncertain_fraction)

    @property
    def candidates(self) -> int:
        """Points drawn for the network to choose among."""
        return self.uncertain_points * self.uncertain_candidates

    @property
    def drawn(self) -> int:
        """Points drawn a volume and step: those that are kept anyway, and the candidates."""
        return self.points - self.uncertain_points + self.candidates
