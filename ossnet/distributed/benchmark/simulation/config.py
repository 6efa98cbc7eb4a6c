"""Settings of the simulation of a study."""

from dataclasses import dataclass

from ossnet.errors import UserError


@dataclass(frozen=True)
class SimulationConfig:
    """The studies that are simulated: each number of GPUs with and without sharing, stopping and losses."""

    gpus: tuple[int, ...] = (1, 3, 10, 30, 100, 300, 1000)
    """Numbers of GPUs, each on a node of its own."""
    trials: int = 1000
    """Trials of a study, drawn from the measured ones."""
    gpu_gib: float = 24.0
    """Memory of a GPU."""
    cpus: int = 8
    """CPUs of a node."""
    trial_hours: float | None = None
    """Mean time of a whole trial; by default as measured."""
    trial_gib: float | None = None
    """Mean predicted peak of a trial; by default as predicted."""
    busy: tuple[float, ...] = (0.25, 0.5)
    """Assumed shares of its time that a trial alone keeps a GPU busy; beyond all of it those that share are
    slowed down."""
    losses: tuple[float, ...] = (0.0, 0.05, 0.2)
    """Assumed losses of a node an hour."""
    replacement_minutes: float = 5.0
    """Assumed time until another node takes the place of a lost one."""
    checkpoint_minutes: float = 1.0
    """Time between two checkpoints, as training.checkpoint-minutes."""
    seed: int = 0
    """Seed of the drawn trials and of the losses."""

    def __post_init__(self) -> None:
        """Reject what cannot be simulated, naming the option.

        Raises:
            UserError: a number out of its range.
        """
        least_one = {"gpus": min(self.gpus, default=0), "trials": self.trials, "cpus": self.cpus}
        for name, value in least_one.items():
            if value < 1:
                raise UserError(name, expected="at least 1", found=str(value))
        positive = {
            "gpu-gib": self.gpu_gib,
            "trial-hours": self.trial_hours,
            "trial-gib": self.trial_gib,
            "checkpoint-minutes": self.checkpoint_minutes,
        }
        for name, number in positive.items():
            if number is not None and not 0 < number < float("inf"):
                raise UserError(name, expected="a positive number", found=str(number))
        if not self.busy or not all(0 < share <= 1 for share in self.busy):
            raise UserError("busy", expected="shares above 0, up to 1", found=_listed(self.busy))
        if not self.losses or not all(0 <= rate < float("inf") for rate in self.losses):
            raise UserError("losses", expected="0 or more an hour", found=_listed(self.losses))
        if not 0 <= self.replacement_minutes < float("inf"):
            found = str(self.replacement_minutes)
            raise UserError("replacement-minutes", expected="0 or more", found=found)


def _listed(values: tuple[float, ...]) -> str:
    return " ".join(map(str, values)) or "none"
