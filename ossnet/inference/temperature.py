"""The temperature of a checkpoint's probabilities, stored as JSON in its folder."""

import json
from dataclasses import dataclass
from pathlib import Path

from ossnet.config_tree import from_dict, to_dict
from ossnet.errors import UserError
from ossnet.output.atomic_write import atomic_write

FILE = "temperature.json"


@dataclass(frozen=True)
class Calibration:
    """A temperature, and what it was fitted on."""

    temperature: float
    """The divisor of the logits: above 1 the network was too certain. It changes no decision."""
    split: str
    """The split that its cases are from."""
    cases: int
    """Number of cases."""
    voxels: int
    """Number of voxels near foreground, of all cases together."""
    nll_before: float
    """Mean negative log likelihood of these voxels' labels at temperature 1, in nats."""
    nll_after: float
    """Mean negative log-likelihood at the fitted temperature, in nats."""
    held_out: dict[str, float]
    """The temperature to evaluate each case at, fitted on the half of the cases that it is not in. A single
    case with foreground has the temperature fitted on itself."""
    in_sample: bool
    """Whether there was only one such case."""

    def save(self, checkpoint: Path) -> Path:
        """Write it next to the weights, atomically, and return the file."""
        path = checkpoint / FILE
        atomic_write(path, json.dumps(to_dict(self), indent=2))
        return path


def read_temperature(checkpoint: Path) -> float:
    """The fitted temperature of a checkpoint; 1 where none was fitted.

    Raises:
        UserError: the file is damaged.
    """
    calibration = read_calibration(checkpoint)
    return 1.0 if calibration is None else calibration.temperature


def read_calibration(checkpoint: Path) -> Calibration | None:
    """The calibration of a checkpoint; None where no temperature was fitted.

    Raises:
        UserError: the file is damaged.
    """
    path = checkpoint / FILE
    if not path.is_file():
        return None
    try:
        calibration = from_dict(Calibration, json.loads(path.read_text()), FILE)
    except ValueError as error:
        found = str(error).splitlines()[0]
        raise UserError(path, expected="a fitted temperature", found=found, remedy="fit it again") from error
    if not 0 < calibration.temperature < float("inf"):
        found = str(calibration.temperature)
        raise UserError(path, expected="a temperature above 0", found=found, remedy="fit it again")
    return calibration
