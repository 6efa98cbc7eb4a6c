"""The temperature of a checkpoint's probabilities, kept as JSON in its folder."""

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
    """Logits are divided by it: above 1 the network was too sure. It changes no decision."""
    split: str
    cases: int
    voxels: int
    nll_before: float
    """Mean negative log likelihood of these voxels' labels at temperature 1, in nats."""
    nll_after: float
    held_out: dict[str, float]
    """Of each of these cases the temperature fitted on the half of them that it is not in: what it may be
    judged at. Of an only case with foreground it is that fitted on itself."""
    in_sample: bool
    """Whether there was only one such case."""

    def save(self, checkpoint: Path) -> Path:
        """Write it beside the weights; aside first, then renamed."""
        path = checkpoint / FILE
        atomic_write(path, json.dumps(to_dict(self), indent=2))
        return path


def read_temperature(checkpoint: Path) -> float:
    """The fitted temperature of a checkpoint; 1 where none was fitted.

    Raises:
        UserError: the file is damaged.
    """
    found = read_calibration(checkpoint)
    return 1.0 if found is None else found.temperature


def read_calibration(checkpoint: Path) -> Calibration | None:
    """What was fitted to a checkpoint, if anything was.

    Raises:
        UserError: the file is damaged.
    """
    path = checkpoint / FILE
    if not path.is_file():
        return None
    try:
        found = from_dict(Calibration, json.loads(path.read_text()), FILE)
    except ValueError as error:
        msg = f"{path}: expected a fitted temperature, found {str(error).splitlines()[0]}: fit it again"
        raise UserError(msg) from error
    if not 0 < found.temperature < float("inf"):
        msg = f"{path}: expected a temperature above 0, found {found.temperature}: fit it again"
        raise UserError(msg)
    return found
