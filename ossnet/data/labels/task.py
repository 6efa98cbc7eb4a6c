"""What a network is to do: from which modalities to which labels or regions, on scans brought to which state.

Legend: X Y Z voxel axes in nibabel order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Integer, UInt8

from ossnet.config_tree import from_dict, to_dict
from ossnet.data.labels.codes import is_nested, label_codes, last_written, written_labels
from ossnet.data.labels.scheme import MAX_REGIONS, ClassScheme
from ossnet.errors import UserError

Normalization = Literal["zscore", "zscore-foreground", "ct", "none"]
Interpolation = Literal["linear", "cubic"]
Target = Literal["labels", "foreground"]
MAX_LABELS = 255
"""Foreground labels that a byte a voxel can tell apart."""
BACKGROUND = 0
BACKGROUND_NAME = "background"


_COMPARED = (
    "modalities",
    "normalization",
    "spacing",
    "interpolation",
    "crop",
    "labels",
    "target",
    "regions",
    "class_names",
)


@dataclass(frozen=True)
class TaskDifference:
    """The first thing in which two tasks differ."""

    name: str
    own: Any
    other: Any


@dataclass(frozen=True)
class Task:
    """The contract between a store, a checkpoint and the scans predicted later; stored with each of them."""

    modalities: tuple[str, ...]
    """The name of each channel, in channel order."""
    labels: dict[str, int]
    """Name and voxel value of each foreground label, in order: a store's label k is the k-th, from 1."""
    normalization: Normalization | tuple[Normalization, ...] = "zscore-foreground"
    """Normalization of intensities: one for all channels, or one for each."""
    spacing: tuple[float, float, float] | None = None
    """Voxel size in mm along R, A and S to resample to; None keeps each scan's own."""
    interpolation: Interpolation = "linear"
    """How images are resampled, where they are."""
    crop: float | None = None
    """Margin in mm around the box of a scan's foreground, beyond which it is cut off; None keeps all."""
    target: Target = "labels"
    """`foreground` merges every value but the background's into one class (the paper's binary tasks)."""
    merged: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Further voxel values in files that are read as a label, or as `background`."""
    regions: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Labels of each region. Regions may overlap; where there are some, they are what is trained."""

    def __post_init__(self) -> None:
        """Reject labels that cannot be stored or written, and regions that cannot be trained.

        Raises:
            UserError: too many labels or regions, a value that is the background's, another label's or beyond
                32 bits, or a region of no or unknown labels.
        """
        _check_labels(self.labels, self.merged if self.target == "labels" else {})
        if len(self.regions) > MAX_REGIONS:
            raise UserError(
                "regions",
                expected=f"at most {MAX_REGIONS}",
                found=str(len(self.regions)),
                remedy="leave some out",
            )
        for name, members in self.regions.items():
            if not members or not set(members) <= set(self.labels):
                raise UserError(
                    f"regions.{name}",
                    expected=f"labels among {', '.join(self.labels)}",
                    found=", ".join(members) or "none",
                    remedy="choose among them",
                )

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the trained classes, in class order: the regions, or else the labels."""
        return tuple(self.regions or self.labels)

    @property
    def classes(self) -> int:
        """Number of foreground classes."""
        return len(self.class_names)

    @property
    def overlapping(self) -> bool:
        """Whether a voxel may lie in several classes."""
        return len(self.regions) > 1

    @property
    def scheme(self) -> ClassScheme:
        """The label scheme of a network for this task."""
        return ClassScheme(self.classes, overlapping=self.overlapping, names=self.class_names)

    @property
    def nested(self) -> bool:
        """Whether one label map can show everything that may be decided."""
        return is_nested(self.regions)

    @property
    def normalizations(self) -> tuple[Normalization, ...]:
        """The normalization of each channel."""
        if isinstance(self.normalization, tuple):
            return self.normalization
        return (self.normalization,) * len(self.modalities)

    def encode(self, values: Integer[np.ndarray, "X Y Z"]) -> UInt8[np.ndarray, "X Y Z"]:
        """Voxel values to label indices, 0 for the background.

        Raises:
            UserError: a value that is neither background nor among the labels.
        """
        if self.target == "foreground":
            inside = values != BACKGROUND
            if ignored := self.merged.get(BACKGROUND_NAME):
                inside &= ~np.isin(values, ignored)
            return inside.astype(np.uint8)
        known, meaning = self._known()
        order = np.argsort(known)
        indices = np.empty(values.shape, np.uint8)
        unknown: set[int] = set()
        for target, slab in zip(
            indices, values, strict=True
        ):  # slab by slab, as the search needs 8 bytes a voxel
            slots = order[np.minimum(np.searchsorted(known, slab, sorter=order), known.size - 1)]
            target[...] = meaning[slots]
            unknown.update(slab[known[slots] != slab].tolist())
        if unknown:
            raise UserError(
                "label",
                expected=f"label values {_shortened(sorted(known.tolist()))}",
                found=f"{_listed(unknown)} too",
                remedy="correct the label or declare the value",
            )
        return indices

    def difference(self, other: "Task") -> TaskDifference | None:
        """In what another task differs, of images or of classes; None where networks of both agree."""
        for name in _COMPARED:
            own, others = getattr(self, name), getattr(other, name)
            if own != others:
                return TaskDifference(name, own, others)
        return None

    def reading_as_one(self, labels: Mapping[str, int]) -> "Task":
        """A copy with a single label, read where any of these labels or of those merged into them is.

        Values that are declared nowhere stay an error; `target="foreground"` would take them as foreground.
        """
        further = (
            value for name, values in self.merged.items() if name != BACKGROUND_NAME for value in values
        )
        first, *rest = dict.fromkeys([*labels.values(), *further])
        background = {name: values for name, values in self.merged.items() if name == BACKGROUND_NAME}
        merged = {"foreground": tuple(rest), **background}
        return replace(self, labels={"foreground": first}, merged=merged, target="labels", regions={})

    def codes(self, indices: UInt8[np.ndarray, "X Y Z"]) -> UInt8[np.ndarray, "X Y Z"]:
        """The codes (`ossnet.data.labels.scheme`) of what is correct where these label indices are."""
        return label_codes(list(self.labels), self.regions)[indices] if self.regions else indices

    def decode(self, codes: UInt8[np.ndarray, "X Y Z"]) -> Integer[np.ndarray, "X Y Z"]:
        """Voxel values of the labels that show codes best: uint8, int16 or int32, the first that fits."""
        values = np.array([BACKGROUND, *self.labels.values()])
        values = values.astype(_smallest_type(values))
        return values[written_labels(list(self.labels), self.regions)[codes] if self.regions else codes]

    def display_class(self, codes: UInt8[np.ndarray, "X Y Z"]) -> UInt8[np.ndarray, "X Y Z"]:
        """The one class to draw for each code, counted from 1; of several regions the innermost."""
        return last_written(self.regions)[codes] if self.regions else codes

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        plain: dict[str, Any] = to_dict(self)
        return plain

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: Path | str = "task") -> "Task":
        """Rebuild what `to_dict` gave; `where` names the file in errors."""
        return from_dict(cls, values, str(where))

    def _known(self) -> tuple[Integer[np.ndarray, " V"], UInt8[np.ndarray, " V"]]:
        """Every voxel value that a file may hold, and the label index that it means."""
        meaning = {BACKGROUND: 0}
        for index, (name, value) in enumerate([(BACKGROUND_NAME, BACKGROUND), *self.labels.items()]):
            meaning |= dict.fromkeys((value, *self.merged.get(name, ())), index)
        return np.array(list(meaning)), np.array(list(meaning.values()), np.uint8)


def _check_labels(labels: Mapping[str, int], merged: Mapping[str, Sequence[int]]) -> None:
    if len(labels) > MAX_LABELS:
        raise UserError(
            "labels",
            expected=f"at most {MAX_LABELS}",
            found=str(len(labels)),
            remedy="merge some, as in --labels all=1,2,3, or learn all of them as one by --target foreground",
        )
    owners: dict[int, str] = {BACKGROUND: BACKGROUND_NAME}
    pairs = [(name, value) for name, value in labels.items()]
    pairs += [(name, value) for name, values in merged.items() for value in values if value != BACKGROUND]
    for name, value in pairs:
        if not -(2**31) <= value < 2**31:
            raise UserError(
                f"labels.{name}",
                expected="a value of 32 bits, as label maps hold",
                found=str(value),
                remedy="number the labels anew",
            )
        if value in owners:
            raise UserError(
                f"labels.{name}",
                expected="a value of its own",
                found=f"{value}, which is that of {owners[value]} too",
                remedy="give each label another value",
            )
        owners[value] = name


def _smallest_type(values: Integer[np.ndarray, " L"]) -> type[np.integer]:
    lowest, highest = int(values.min()), int(values.max())
    types = (np.uint8, np.int16, np.int32)
    return next(kind for kind in types if np.iinfo(kind).min <= lowest and highest <= np.iinfo(kind).max)


def _shortened(values: list[int], most: int = 32) -> str:
    if len(values) <= most:
        return str(values)
    return f"[{', '.join(map(str, values[:3]))}, ..., {values[-1]}], {len(values)} of them"


def _listed(values: set[int]) -> str:
    shown = ", ".join(map(str, sorted(values)[:5]))
    return shown if len(values) <= 5 else f"{shown} and {len(values) - 5} others"
