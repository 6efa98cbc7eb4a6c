"""Several networks of one task as one: the mean of their probabilities decides.

Letters: C channels, K foreground classes, X Y Z voxel axes in nibabel's order.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ossnet.config_tree import from_dict
from ossnet.data import Scan, Task
from ossnet.data.imaging.geometry import Spacing
from ossnet.errors import UserError
from ossnet.inference.config import Axis, Method, Precision
from ossnet.inference.predictor import Predictor, Segmentation
from ossnet.inference.scans import Images, read_scan
from ossnet.inference.volume import VolumePrediction
from ossnet.output.atomic_write import atomic_write
from ossnet.output.duration import counted
from ossnet.training.checkpoint_files import checkpoint_folder

FILE = "ensemble.json"
"""The file of an ensemble, in the folder of the study that chose it."""


@dataclass(frozen=True)
class Member:
    """A network of an ensemble."""

    checkpoint: Path
    """Folder that training wrote; in a file relative to the file's own folder."""
    weight: float = 1.0
    """The share of its probabilities in the mean."""


@dataclass(frozen=True)
class Ensemble:
    """An ensemble as a file keeps it."""

    members: tuple[Member, ...]
    dice: float
    """Mean Dice of all together on the validation cases that they were chosen on."""
    best_dice: float
    """That of the best one of them alone."""
    cases: int
    """Number of these cases."""

    def save(self, folder: Path) -> Path:
        """Write it to a folder, atomically, and return the file."""
        atomic_write(folder / FILE, json.dumps(self.to_dict(), indent=2))
        return folder / FILE

    def to_dict(self) -> dict[str, Any]:
        """The ensemble as JSON values."""
        members = [{"checkpoint": str(each.checkpoint), "weight": each.weight} for each in self.members]
        return {"members": members, "dice": self.dice, "best_dice": self.best_dice, "cases": self.cases}

    def __str__(self) -> str:
        networks = counted(len(self.members), "network")
        cases = counted(self.cases, "case")
        return f"Dice {self.dice:.4f} of {networks} (the best alone {self.best_dice:.4f}) on {cases}"

    @classmethod
    def read(cls, folder: Path) -> "Ensemble":
        """Read what `save` wrote.

        Raises:
            UserError: the file is damaged.
        """
        path = folder / FILE
        try:
            ensemble = from_dict(cls, json.loads(path.read_text()), FILE)
        except ValueError as error:
            found = str(error).splitlines()[0]
            raise UserError(path, expected="an ensemble", found=found, remedy="copy it again") from error
        if not ensemble.members or not all(each.weight > 0 for each in ensemble.members):
            weights = [each.weight for each in ensemble.members]
            raise UserError(path, expected="weights above 0", found=str(weights), remedy="copy it again")
        return ensemble


def read_members(paths: Sequence[Path]) -> tuple[Member, ...]:
    """The checkpoints in these folders or runs, of equal weights; an ensemble in one divides its own by that.

    Raises:
        UserError: the file of an ensemble is damaged.
    """
    found = list[Member]()
    for path in paths:
        members = Ensemble.read(path).members if (path / FILE).is_file() else (Member(Path()),)
        total = len(paths) * sum(each.weight for each in members)
        found += [Member(checkpoint_folder(path / each.checkpoint), each.weight / total) for each in members]
    return tuple(found)


@dataclass(frozen=True)
class EnsemblePredictor:
    """Predicts with one network after the other, each of which is read for its turn: the peak of memory is
    that of the largest one, and the mean of the probabilities.

    Every network decides every voxel, whatever its method. Its probabilities are those at its own fitted
    temperature.
    """

    members: tuple[Member, ...]
    """The networks; their weights add up to 1."""
    load: Callable[[Path], Predictor]
    """Reads the network of a checkpoint."""
    task: Task
    """The task of all."""
    temperature: float = field(default=1.0, init=False)
    """That of the mean: nothing divides it."""
    components: None = field(default=None, init=False)
    """No rule on components was fitted on the mean."""

    @classmethod
    def of(cls, members: Sequence[Member], load: Callable[[Path], Predictor]) -> "EnsemblePredictor":
        """Read each once, to check that all have one task.

        Raises:
            UserError: the reasons of `Predictor.from_checkpoint`, or a member of another task.
        """
        first, *others = members
        task = load(first.checkpoint).task
        for each in others:
            differing = task.difference(load(each.checkpoint).task)
            if differing is not None:
                raise UserError(
                    each.checkpoint,
                    expected=f"{differing.name} {differing.own}, as {first.checkpoint} has",
                    found=f"{differing.name} {differing.other}",
                    remedy="give checkpoints of one task",
                )
        return cls(tuple(members), load, task)

    @property
    def name(self) -> str:
        """How many networks there are."""
        return f"{len(self.members)} networks"

    def __call__(
        self,
        images: Images,
        *,
        affine: Float[np.ndarray, "4 4"] | None = None,
        with_probabilities: bool = False,
    ) -> Segmentation:
        """Segment one scan, as a `Predictor` does.

        Raises:
            UserError: a file is missing or broken, or the scan has not the task's modalities.
        """
        return self.segment(
            read_scan(images, self.task, affine=affine), with_probabilities=with_probabilities
        )

    def segment(self, scan: Scan, *, with_probabilities: bool = False) -> Segmentation:
        """Segment one preprocessed scan on its own grid, or on the finer one that was requested."""
        mean, geometry = None, scan.geometry
        for each in self.members:
            found = self.load(each.checkpoint).segment(scan, with_probabilities=True)
            assert found.probabilities is not None
            if mean is None:
                mean = torch.zeros((len(found.probabilities), *found.codes.shape))
                geometry = found.geometry
            for total, probability in zip(mean, found.probabilities.values(), strict=True):
                total.add_(torch.from_numpy(probability), alpha=each.weight)
            del found  # or the next network would find it in memory
        assert mean is not None
        codes = self.task.scheme.decide_probabilities(mean).numpy()
        probabilities = dict(zip(self.task.class_names, mean.numpy(), strict=True))
        return Segmentation.of(
            codes,
            self.task,
            geometry,
            image=scan.image,
            probabilities=probabilities if with_probabilities else None,
        )

    def predict(
        self,
        image: Float[Tensor, "C X Y Z"],
        *,
        with_probabilities: bool = False,
        temperature: float | None = None,
    ) -> VolumePrediction:
        """Decide every voxel of a preprocessed volume, on the CPU.

        Args:
            temperature: ignored, as each network has its own.
        """
        mean, queried = None, 0
        for each in self.members:
            found = self.load(each.checkpoint).predict(image, with_probabilities=True)
            assert found.probabilities is not None
            part, queried = found.probabilities.cpu() * each.weight, queried + found.n_queried
            mean = part if mean is None else mean.add_(part)
            del found, part
        assert mean is not None
        codes = self.task.scheme.decide_probabilities(mean)
        return VolumePrediction(codes, mean if with_probabilities else None, queried)


AnyPredictor = Predictor | EnsemblePredictor


def load_predictor(
    members: Sequence[Member],
    *,
    method: Method | None = None,
    precision: Precision | None = None,
    flips: Sequence[Axis] | None = None,
    spacing: Spacing | None = None,
    compiled: bool = False,
    device: str | None = None,
) -> AnyPredictor:
    """The predictor of one checkpoint, or of several together, by options of `Predictor.from_checkpoint`.

    Raises:
        UserError: its reasons; members of several tasks, or several to compile.
    """
    load = partial(
        Predictor.from_checkpoint,
        method=method,
        precision=precision,
        flips=flips,
        spacing=spacing,
        compiled=compiled,
        device=device,
    )
    if len(members) == 1:
        return load(members[0].checkpoint)
    if compiled:
        raise several("compile", members)
    return EnsemblePredictor.of(members, load)


def several(option: str, members: Sequence[Member]) -> UserError:
    """The error of an option that only one network can have."""
    found = f"{len(members)} checkpoints"
    return UserError(option, expected="one checkpoint", found=found, remedy="leave one of both out")
