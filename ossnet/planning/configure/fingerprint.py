"""What of a data set decides its configuration, small enough to be sent anywhere.

Letters: X Y Z voxel axes in nibabel's order.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from ossnet.data import Store
from ossnet.data.imaging.geometry import Spacing
from ossnet.data.labels.task import Task
from ossnet.data.store.dataset_info import DatasetSpec, Shape
from ossnet.data.store.quantization import Storage


@dataclass(frozen=True)
class Fingerprint:
    """The facts about a data set that rules read; a `DatasetSpec` like the store that it is of."""

    root: Path | str
    task: Task
    max_shape: Shape
    """Voxels of the largest case along X, Y and Z."""
    median_shape: Shape
    """Median voxels of the cases along X, Y and Z."""
    storage: Storage
    training_cases: int | None
    """Number of cases that are trained on; None where there is no store."""
    spacing: Spacing | None = None
    """Median voxel size in mm; None where there is no store."""
    class_fractions: tuple[float, ...] = ()
    """Fraction of all voxels that bear each label, without the background; empty where that is unknown."""

    @classmethod
    def of(cls, dataset: DatasetSpec, *, fold: int | None = None) -> "Fingerprint":
        """The fingerprint of a store, or of sizes alone.

        Args:
            fold: the fold that validates what the others train.

        Raises:
            UserError: the store has no such fold.
        """
        if isinstance(dataset, Fingerprint):
            return dataset
        if not isinstance(dataset, Store):
            return cls(
                root=dataset.root,
                task=dataset.task,
                max_shape=dataset.max_shape,
                median_shape=dataset.max_shape,
                storage=dataset.storage,
                training_cases=dataset.training_cases,
            )
        statistics = dataset.manifest.statistics
        x, y, z = (max(round(axis), 1) for axis in statistics.median_shape)
        return cls(
            root=dataset.root,
            task=dataset.task,
            max_shape=dataset.max_shape,
            median_shape=(x, y, z),
            storage=dataset.storage,
            training_cases=len(dataset.split("training", fold=fold)),
            spacing=statistics.median_spacing,
            class_fractions=tuple(
                fraction for name, fraction in statistics.class_frequencies.items() if name != "background"
            ),
        )

    @property
    def voxels(self) -> int:
        """Voxels of a case of the median extents."""
        return math.prod(self.median_shape)

    @property
    def rarest(self) -> float | None:
        """Fraction of the voxels that the rarest label bears, of those that occur; None where unknown."""
        return min((fraction for fraction in self.class_fractions if fraction > 0), default=None)
