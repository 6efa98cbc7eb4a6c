"""The range of the data that a network was trained on, kept with its checkpoint; scans outside of it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ossnet.config_tree import from_dict, to_dict
from ossnet.data.imaging.preprocessing import Scan
from ossnet.data.store.store import Store

TRAINING_RANGE = "data.json"
"""The file in a checkpoint; those of before have none."""
_AXES = ("left to right", "back to front", "foot to head")
_SPACING_FACTOR, _EXTENT_FACTOR, _MEAN_FACTOR = 1.5, 1.6, 3.0
"""How far beyond the training cases a scan may lie: scanners and patients differ that much."""


@dataclass(frozen=True)
class Range:
    """The smallest and the largest value over the training cases."""

    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """The range of some values."""
        return cls(min(values), max(values))

    def holds(self, value: float, factor: float) -> bool:
        """Whether a positive value lies in it, or outside by no more than a factor."""
        return self.low / factor <= value <= self.high * factor

    def holds_mean(self, value: float) -> bool:
        """Whether a mean intensity, which may be negative, lies in it or not far from it."""
        if self.low > 0:
            return self.holds(value, _MEAN_FACTOR)
        slack = max(self.high - self.low, abs(self.low), abs(self.high))
        return self.low - slack <= value <= self.high + slack

    def __str__(self) -> str:
        low, high = f"{self.low:.3g}", f"{self.high:.3g}"
        return low if low == high else f"{low} to {high}"


@dataclass(frozen=True)
class TrainingRange:
    """Spacings, extents and intensities of training cases."""

    fingerprint: str
    """Of the store."""
    spacing_mm: tuple[Range, ...]
    """Along R, A and S; none where every scan is resampled to one."""
    extent_mm: tuple[Range, ...]
    """Along R, A and S."""
    means: dict[str, Range]
    """By modality, of the mean of the voxels that are not 0, before normalization."""

    @classmethod
    def of(cls, store: Store, *, fold: int | None = None) -> Self:
        """That of a store's training cases."""
        cases = [store.manifest.cases[case].statistics for case in store.split("training", fold=fold)]
        sizes = [[case.shape[axis] * case.spacing[axis] for case in cases] for axis in range(3)]
        spacings = [[case.spacing[axis] for case in cases] for axis in range(3)]
        means = {
            name: Range.of([case.intensities[channel].mean for case in cases])
            for channel, name in enumerate(store.task.modalities)
        }
        return cls(
            fingerprint=store.manifest.fingerprint,
            spacing_mm=() if store.task.spacing is not None else tuple(map(Range.of, spacings)),
            extent_mm=tuple(map(Range.of, sizes)),
            means=means,
        )

    @classmethod
    def read(cls, checkpoint: Path) -> Self | None:
        """That of a checkpoint; None of one from before there was any.

        Raises:
            UserError: the file is damaged.
        """
        path = checkpoint / TRAINING_RANGE
        return from_dict(cls, json.loads(path.read_text()), str(path)) if path.is_file() else None

    def to_json(self) -> str:
        """As `read` takes it."""
        return json.dumps(to_dict(self), indent=2)

    def differences(self, scan: Scan) -> tuple[str, ...]:
        """What of a scan is unlike the training cases, a clause for each."""
        spacings = scan.geometry.canonical_spacing
        extents = [
            voxels * size for voxels, size in zip(scan.geometry.canonical_shape, spacings, strict=True)
        ]
        found = [
            f"spacing {size:.3g} mm {axis} (trained on {known})"
            for axis, size, known in zip(_AXES, spacings, self.spacing_mm or (None,) * 3, strict=True)
            if known is not None and not known.holds(size, _SPACING_FACTOR)
        ]
        found += [
            f"{size:.3g} mm {axis} (trained on {known})"
            for axis, size, known in zip(_AXES, extents, self.extent_mm, strict=True)
            if not known.holds(size, _EXTENT_FACTOR)
        ]
        found += [
            f"mean {name} {mean:.3g} (trained on {known})"
            for (name, known), mean in zip(self.means.items(), scan.means, strict=False)
            if not known.holds_mean(mean)
        ]
        return tuple(found)
