"""What a plan found, for people and for machines."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ossnet.config_tree import to_dict
from ossnet.output.atomic_write import atomic_write
from ossnet.planning.budget import COMMON_GPUS, GB, MARGIN, MaxSizes, limits
from ossnet.planning.estimate import MemoryEstimate, ScalingCurve, growth
from ossnet.planning.estimator import PeakEstimator
from ossnet.planning.peak import Plannable
from ossnet.planning.tables import draw, show, show_parts

__all__ = ["Report", "show", "show_parts"]


@dataclass(frozen=True)
class Report:
    """One configuration, or those that were drawn from a space."""

    budget: int
    """Bytes of the GPU to fit."""
    outlooks: tuple[MemoryEstimate, ...]
    limits: MaxSizes | None = None
    """Of one configuration."""
    growing: tuple[ScalingCurve, ...] = ()
    picture: Path | None = None

    def shares(self) -> str:
        """How many fit an 8 GB GPU, and the budget, in a line."""
        count = len(self.outlooks)
        sizes = {size: self._fitting(size) for size in (COMMON_GPUS[0], self.budget)}
        parts = [
            f"{fit} of {count} ({fit / count:.0%}) fit {size / GB:.3g} GB" for size, fit in sizes.items()
        ]
        return ", ".join(parts)

    def with_growth(self, config: Plannable, forecast: PeakEstimator, folder: Path) -> "Report":
        """The same with what fits the budget, and a picture of growth, renamed when whole."""
        lines = tuple(growth(config, forecast))
        picture = folder / "growth.png"
        atomic_write(picture, draw(lines))
        return replace(self, limits=limits(config, self.budget, forecast), growing=lines, picture=picture)

    def told(self) -> dict[str, object]:
        """For people, a line each."""
        told: dict[str, object] = {}
        if self.limits is not None:
            fit = {"batch": self.limits.batch, "points": self.limits.points, "shape": self.limits.shape}
            budget = f"{self.budget / GB:.3g} GB"
            told |= {f"largest {name} in {budget}": value for name, value in fit.items() if value is not None}
            if self.limits.batch is None:
                told |= {f"in {budget}": "not even one volume fits"}
        if self.picture is not None:
            told["growth with resolution"] = self.picture
        return told | {"margin": f"{MARGIN}, a starting guess: not calibrated on a GPU yet"}

    def to_dict(self) -> dict[str, Any]:
        """For machines."""
        count = len(self.outlooks)
        shares = {"8GB": self._fitting(COMMON_GPUS[0]) / count, "budget": self._fitting(self.budget) / count}
        plain: dict[str, Any] = to_dict(self)
        return plain | {"shares": shares, "margin": to_dict(MARGIN)}

    def _fitting(self, size: int) -> int:
        return sum(each.needed <= size for each in self.outlooks)
