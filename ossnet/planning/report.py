"""The result of a plan, human-readable and as JSON."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ossnet.config import Config
from ossnet.config_tree import to_dict
from ossnet.output.atomic_write import atomic_write
from ossnet.planning.budget import COMMON_GPUS, MaxSizes, max_sizes
from ossnet.planning.estimate import MemoryEstimate, ScalingCurve, scaling_curves
from ossnet.planning.estimator import PeakEstimator
from ossnet.planning.margin import GB, MARGIN
from ossnet.planning.tables import plot_scaling, show, show_parts

__all__ = ["Report", "show", "show_parts"]


@dataclass(frozen=True)
class Report:
    """The memory of one configuration, or of those that were drawn from a search space."""

    budget: int
    """Bytes of the GPU to fit."""
    estimates: tuple[MemoryEstimate, ...]
    max_sizes: MaxSizes | None = None
    """The largest batch, points and shape that fit; of one configuration only."""
    scaling: tuple[ScalingCurve, ...] = ()
    figure: Path | None = None
    """The scaling curves, drawn as PNG."""

    def fit_line(self) -> str:
        """How many configurations fit an 8 GB GPU, and the budget, in a line."""
        count = len(self.estimates)
        sizes = {size: self._n_fitting(size) for size in (COMMON_GPUS[0], self.budget)}
        parts = [
            f"{fit} of {count} ({fit / count:.0%}) fit a GPU of {size / GB:.3g} GB"
            for size, fit in sizes.items()
        ]
        return ", ".join(parts)

    def with_scaling(self, config: Config, estimator: PeakEstimator, folder: Path) -> "Report":
        """A copy with the largest sizes that fit the budget and the scaling curves, drawn into `folder`."""
        curves = tuple(scaling_curves(config, estimator))
        figure = folder / "growth.png"
        atomic_write(figure, plot_scaling(curves))
        return replace(
            self, max_sizes=max_sizes(config, self.budget, estimator), scaling=curves, figure=figure
        )

    def summary(self) -> dict[str, object]:
        """The result in human-readable rows."""
        rows: dict[str, object] = {}
        if self.max_sizes is not None:
            sizes = self.max_sizes
            fit = {"batch": sizes.batch, "points": sizes.points, "shape": sizes.shape}
            budget = f"{self.budget / GB:.3g} GB"
            rows |= {f"largest {name} in {budget}": value for name, value in fit.items() if value is not None}
            if sizes.batch is None:
                rows |= {f"in {budget}": "not even one volume fits"}
        if self.figure is not None:
            rows["growth with resolution"] = self.figure
        return rows | {"margin": f"{MARGIN}, {MARGIN.source}"}

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON-able values, with the fraction of configurations that fit and the margin."""
        count = len(self.estimates)
        fractions = {
            "8GB": self._n_fitting(COMMON_GPUS[0]) / count,
            "budget": self._n_fitting(self.budget) / count,
        }
        plain: dict[str, Any] = to_dict(self)
        return plain | {"fitting_fractions": fractions, "margin": to_dict(MARGIN)}

    def _n_fitting(self, size: int) -> int:
        return sum(each.needed <= size for each in self.estimates)
