"""How training data is drawn. Light: no torch here."""

from dataclasses import dataclass
from typing import Literal


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
    """How far the border reaches to either side."""
    border_unit: Literal["mm", "voxels"] = "mm"
    """mm: distance to the nearest voxel of the other kind; voxels: the paper's, along the largest axis."""
    gaussian_width: float = 3.0
    """Standard deviation in mm along each axis."""
    uncertain_candidates: int = 3
    """Candidates, drawn uniformly, for each point kept (PointRend: 3)."""
    distance_reach: float = 10.0
    """Distance in mm beyond which a network's distance head tells no difference."""
    crop_shape: tuple[int, int, int] | None = None
    """What a dense network trains on; nothing: the whole working volume."""
    slices: int = 16
    """Slices a volume and step for a 2-D network."""
    working_shape: tuple[int, int, int] | None = None
    """The grid every case is centered in; nothing: the study's largest case, rounded up for the network."""

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn, naming the field."""
        for name in ("points", "uncertain_candidates"):
            if getattr(self, name) < 1:
                msg = f"{name} must be at least 1, found {getattr(self, name)}"
                raise ValueError(msg)
        for name in ("distance_reach", "border_width", "gaussian_width"):
            if not 0 < getattr(self, name) < float("inf"):
                msg = f"{name} must be above 0, found {getattr(self, name)}"
                raise ValueError(msg)
        if self.border_unit == "voxels" and self.border_width != int(self.border_width):
            msg = f"border_width must be a whole number of voxels, found {self.border_width}"
            raise ValueError(msg)
        names = ("border_fraction", "foreground_fraction", "gaussian_fraction", "uncertain_fraction")
        shares = [getattr(self, name) for name in names]
        if not (min(shares) >= 0 and sum(shares) <= 1 + 1e-9):  # a sum of shares may round up
            found = ", ".join(map(str, shares))
            msg = f"{', '.join(names)} must be positive and add to 1 at most, found {found}"
            raise ValueError(msg)

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
