"""Connected components that are too small to be real, and are removed: a rule that a checkpoint may have.

Letters: X Y Z voxel axes in nibabel's order.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, prod
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Integer, UInt8

from ossnet.config_tree import from_dict, to_dict
from ossnet.data import Task
from ossnet.errors import UserError
from ossnet.output.atomic_write import atomic_write

FILE = "components.json"


@dataclass(frozen=True)
class ComponentFilter:
    """The smallest component of each class that is kept, and what it was fitted on."""

    smallest_ml: dict[str, float]
    """Volume in milliliters by class, below which a component is removed; 0 keeps all."""
    split: str
    """The split that its cases are from."""
    cases: int
    """Number of cases."""
    dice_before: dict[str, float]
    """Mean Dice of each class without it."""
    dice_after: dict[str, float]
    """Mean Dice with it, of the cases that it was fitted on."""
    dice_held_out: dict[str, float]
    """Mean Dice with the rule that the half of the cases without the case gives."""

    def apply(
        self, codes: UInt8[np.ndarray, "X Y Z"], task: Task, spacing: Sequence[float]
    ) -> UInt8[np.ndarray, "X Y Z"]:
        """The codes without small components; what lies within a removed region goes with it.

        Args:
            spacing: the voxel's edges in mm.
        """
        result, voxel_ml = codes.copy(), prod(spacing) / 1000
        for index, name in enumerate(task.class_names):
            least = self.smallest_ml[name]
            if least > 0:
                components, voxels = label_components(task.scheme.in_class(result, index))
                small = voxels * voxel_ml < least
                small[0] = False  # the background
                _remove(result, small[components], index, task)
        return result

    def lines(self) -> list[str]:
        """What is kept of each class, and what that brings."""
        kept = {
            name: f"components from {size:.3g} ml are kept" if size else "all components are kept"
            for name, size in self.smallest_ml.items()
        }
        before, after = self.dice_before, self.dice_held_out
        return [
            f"{name}: {text}; Dice {before[name]:.4f} before, {after[name]:.4f} on cases not fitted on"
            for name, text in kept.items()
        ]

    def save(self, checkpoint: Path) -> Path:
        """Write it next to the weights, atomically, and return the file."""
        path = checkpoint / FILE
        atomic_write(path, json.dumps(to_dict(self), indent=2))
        return path


def read_components(checkpoint: Path, task: Task) -> ComponentFilter | None:
    """The rule of a checkpoint; None where none was fitted.

    Raises:
        UserError: the file is damaged, or of other classes.
    """
    path, remedy = checkpoint / FILE, "fit it again, or remove the file"
    if not path.is_file():
        return None
    try:
        found = from_dict(ComponentFilter, json.loads(path.read_text()), FILE)
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise UserError(path, expected="fitted component sizes", found=reason, remedy=remedy) from error
    sizes = found.smallest_ml
    if set(sizes) != set(task.class_names) or not all(0 <= each < inf for each in sizes.values()):
        expected = f"a volume for each of {', '.join(task.class_names)}"
        raise UserError(path, expected=expected, found=str(sizes), remedy=remedy)
    return found


def label_components(
    mask: Bool[np.ndarray, "X Y Z"],
) -> tuple[Integer[np.ndarray, "X Y Z"], Integer[np.ndarray, " N"]]:
    """Each voxel's component, 0 outside, and the voxels of each; voxels that touch at a corner share one."""
    from scipy.ndimage import label

    components, count = label(mask, np.ones((3, 3, 3)))
    return components, np.bincount(components.ravel(), minlength=count + 1)


def _remove(
    codes: UInt8[np.ndarray, "X Y Z"], where: Bool[np.ndarray, "X Y Z"], index: int, task: Task
) -> None:
    """Take voxels out of a class and of those within it; of exclusive classes they become background."""
    scheme = task.scheme
    if not scheme.overlapping:
        codes[where] = 0
        return
    possible = task.codes(np.arange(len(task.labels) + 1, dtype=np.uint8))
    outer = scheme.in_class(possible, index)
    within = [each for each in range(scheme.classes) if not (scheme.in_class(possible, each) & ~outer).any()]
    codes[where] &= np.uint8(~sum(1 << each for each in within) & 0xFF)
