"""How large everything is that the check of a GPU works on."""

from dataclasses import dataclass

from ossnet.benchmarks.config import Shape
from ossnet.models import PRESETS


@dataclass(frozen=True)
class TrainingRun:
    """A short training to time."""

    network: str
    precision: str
    steps_per_batch: int = 1
    device_cache_gib: float = 0.0
    """Volumes kept on the device from epoch to epoch."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of all parts of the check."""

    networks: tuple[str, ...]
    """Presets of which results and memory are compared."""
    points: int
    """Points a volume of occupancy networks; fewer where results are compared."""
    parity_shape: Shape
    """Voxels of the cases of which batches and networks are compared."""
    memory_shapes: tuple[Shape, ...]
    """Voxels of the volumes that memory is measured at."""
    memory_batch: int
    """Volumes a step of which memory is measured."""
    study_shape: Shape
    """Voxels of the cases that are trained on and predicted."""
    cases: int
    batch_size: int
    epochs: int
    runs: tuple[TrainingRun, ...]
    predicted: tuple[str, ...]
    """Presets that predict a whole volume."""
    time_factor: int = 1
    """Each part may take so many times the time that it has on a GPU."""


FULL = Sizes(
    networks=tuple(PRESETS),
    points=2**14,
    parity_shape=(64, 64, 48),
    memory_shapes=((96, 96, 96), (240, 240, 155), (160, 160, 128)),
    memory_batch=2,
    study_shape=(240, 240, 155),
    cases=16,
    batch_size=8,
    epochs=6,
    runs=(
        TrainingRun("oss-net-c", "float32"),
        TrainingRun("oss-net-c", "bf16"),
        TrainingRun("oss-net-c", "bf16", steps_per_batch=4),
        TrainingRun("oss-net-c", "bf16", device_cache_gib=4),
        TrainingRun("oss-net-d", "bf16"),
        TrainingRun("feature-query", "bf16"),
    ),
    predicted=("oss-net-c", "oss-net-d", "unet-3d"),
)
"""For a GPU: the paper's sizes, in less than ten minutes."""
SMALL = Sizes(
    networks=("oss-net-d", "unet-3d"),
    points=128,
    parity_shape=(28, 26, 22),
    memory_shapes=((32, 32, 32),),
    memory_batch=1,
    study_shape=(32, 30, 24),
    cases=4,
    batch_size=2,
    epochs=3,
    runs=(TrainingRun("oss-net-c", "float32"),),
    predicted=("oss-net-c",),
    time_factor=4,
)
"""For a CPU, where only the way through the check is tested."""
