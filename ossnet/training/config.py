"""Configuration of training: its length, its loss and its optimizer. Light: no torch here."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ossnet.config_tree import unknown_name
from ossnet.errors import UserError
from ossnet.plugins import Group

if TYPE_CHECKING:
    from torch import Tensor

Loss = Callable[["Tensor", "Tensor"], "Tensor"]
"""A loss from a package: of logits `[B K M]` in float32 and a target, `[B M]` the class of each place, or
`[B K M]` 0 or 1 for a single class and for regions; a scalar. It must not read values of tensors (`item`)."""


def _check_plugin(name: str, value: object) -> Loss:
    if not callable(value):
        raise ValueError(f"expected a function of logits and target for {name}, found {value!r}")
    return value


LOSSES = Group(
    "ossnet.losses", check=_check_plugin, built_in=("cross_entropy", "dice", "focal", "auxiliary", "distance")
)


@dataclass(frozen=True)
class TrainingConfig:
    """Options of training: its length, batch size and precision."""

    epochs: int = 50
    """Passes over the training cases (paper: 50)."""
    max_time_s: float | None = None
    """Seconds of the run, validations and checkpoints included: it ends after any step, in time to validate
    and to save. The learning rate and the validations then follow the share that is done of the time, or of
    the epochs where that is more; `validate_every` has no effect."""
    validate_at: tuple[float, ...] = ()
    """Shares of a run of `max_time_s` at which it validates, besides its end; by default as many as 10 % of
    the time allows, the first at 20 % of it."""
    batch_size: int = 8
    """Volumes a step, over all workers (paper: 8 for BraTS, 4 for LiTS)."""
    accumulation_steps: int = 1
    """Parts of a step's batch that pass through the network one after another: memory for one part only, and
    the same gradients but for batch statistics."""
    steps_per_batch: int | None = None
    """Successive steps on the same volumes; nothing: as many as keep a GPU from waiting, 1 on a CPU."""
    loader_threads: int | None = None
    """Threads that read the next steps' cases; nothing: one for each CPU but the network's, 8 at most."""
    device_cache_gib: float | None = None
    """GiB of the device for volumes that stay there from epoch to epoch; nothing: what all take, where a GPU
    would wait without and they fit, else 0."""
    initialize_from: str | None = None
    """Folder of a checkpoint, or of a run, from whose weights the network starts; see docs/fine_tuning.md."""
    seed: int = 0
    """Decides the weights' start, the order of cases and every draw."""
    precision: Literal["float32", "bf16"] = "float32"
    """bf16: matrix products and convolutions in bfloat16."""
    compile: bool = False
    """Have torch's compiler make the arithmetic between an occupancy network's matrix products: faster steps
    after a slow first one. Needs a C++ compiler on CPUs, Triton on GPUs; see docs/compile.md."""
    validate_every: int = 5
    """Epochs between two validations; the last epoch is always validated."""
    validation_cases: int | None = None
    """Validate on the first so many cases of the split only; nothing: on all."""
    fold: int | None = None
    """Fold of the store that validates what the others train; by default its own splits are taken."""
    checkpoint_every: int = 1
    """Epochs between two checkpoints; the last epoch always leaves one."""
    checkpoint_minutes: float | None = 1.0
    """Minutes without a checkpoint after which one is saved within an epoch; nothing: none."""

    def __post_init__(self) -> None:
        """Reject what would train nothing.

        Raises:
            UserError: names the field.
        """
        counts = ("epochs", "batch_size", "accumulation_steps", "validate_every", "checkpoint_every")
        for name in (*counts, "steps_per_batch", "loader_threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(name, expected="at least 1", found=str(value))
        if self.accumulation_steps > self.batch_size:
            most, found = f"at most the {self.batch_size} volumes of a batch", str(self.accumulation_steps)
            raise UserError("accumulation_steps", expected=most, found=found)
        if self.checkpoint_minutes is not None and not self.checkpoint_minutes > 0:
            found = str(self.checkpoint_minutes)
            raise UserError("checkpoint_minutes", expected="a number above 0, or None", found=found)
        if self.device_cache_gib is not None and not 0 <= self.device_cache_gib < float("inf"):
            raise UserError(
                "device_cache_gib", expected="0 or a positive number", found=str(self.device_cache_gib)
            )


@dataclass(frozen=True)
class LossConfig:
    """The paper's loss by default: cross-entropy, and a tenth of it on the coarse prediction."""

    cross_entropy_weight: float = 1.0
    """Binary cross-entropy for one class and for overlapping regions, softmax cross-entropy for several."""
    dice_weight: float = 0.0
    """Soft Dice over the places of each volume, without the background (beyond the paper)."""
    focal_weight: float = 0.0
    """Focal loss: cross-entropy that counts a place less the surer and righter it is (beyond the paper)."""
    focal_gamma: float = 2.0
    """The exponent of the focal loss, 0 for plain cross-entropy, else 1 or more."""
    extra: tuple[str, ...] = ()
    """Losses of installed packages to add, by name."""
    extra_weight: float = 1.0
    """Weight of each of them."""
    auxiliary_weight: float = 0.1
    """Cross-entropy of the auxiliary low-resolution prediction (paper: 0.1)."""
    distance_weight: float = 1.0
    """Mean error of the distances, in units of their reach, where the network has a head for them."""

    def __post_init__(self) -> None:
        """Reject weights that leave nothing to minimize.

        Raises:
            UserError: names the field.
        """
        weights = ("cross_entropy_weight", "dice_weight", "focal_weight", "extra_weight")
        for name in (*weights, "auxiliary_weight", "distance_weight"):
            if not 0 <= getattr(self, name) < float("inf"):
                found = repr(getattr(self, name))
                raise UserError(name, expected="0 or a positive number", found=found)
        for name in self.extra:
            if name not in LOSSES.plugins():
                remedy = "install the package that brings it"
                raise unknown_name("extra", "loss", name, LOSSES.plugins(), remedy=remedy)
        extra = self.extra_weight * len(self.extra)
        if not self.cross_entropy_weight + self.dice_weight + self.focal_weight + extra > 0:
            raise UserError(
                "cross_entropy_weight, dice_weight, focal_weight",
                expected="one above 0",
                found="0 for all",
            )
        # Between 0 and 1 the gradient is infinite where a prediction is certain.
        if not (self.focal_gamma == 0 or 1 <= self.focal_gamma < float("inf")):
            raise UserError("focal_gamma", expected="0, or 1 or more", found=repr(self.focal_gamma))


@dataclass(frozen=True)
class OptimizerConfig:
    """The paper's recipe by default."""

    name: Literal["lookahead-radam", "adamw", "sgd"] = "lookahead-radam"
    """Lookahead(RAdam) as in the paper, AdamW, or SGD with Nesterov's momentum of 0.99 as in nnU-Net."""
    learning_rate: float = 3e-4
    """Learning rate of everything but the Padé coefficients."""
    pade_learning_rate: float = 3e-4
    """Learning rate of the Padé coefficients. The reference names 1e-2, but a shared buffer of its RAdam
    undid it."""
    weight_decay: float = 0.0
    """Weight decay of everything but the Padé coefficients."""
    lookahead_steps: int = 5
    """Steps between two pulls towards the slow weights."""
    lookahead_alpha: float = 0.8
    """Fraction of the distance to the fast weights that the slow weights move at a pull."""
    schedule: Literal["multistep", "cosine", "polynomial", "constant"] = "multistep"
    """Schedule of the learning rate over a run's progress; polynomial: nnU-Net's, of the power 0.9."""
    milestones: tuple[float, ...] = (0.4, 0.6)
    """Progress at which a multistep schedule divides the rate by 10 (paper: epochs 20 and 30 of 50)."""
