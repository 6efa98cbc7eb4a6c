"""Results of a comparison of networks, and their file."""

from dataclasses import dataclass
from typing import Literal

from ossnet.benchmarks.machine import rates
from ossnet.benchmarks.networks.macs import Operations
from ossnet.benchmarks.result import BenchmarkResult
from ossnet.sampling.grid import Shape

STATISTIC = "seconds of the fastest repeat after a warm-up; step_median_s of the median one"


@dataclass(frozen=True)
class ModelRow:
    """Measurements of one network at one size; a value is None where memory did not suffice to measure it."""

    network: str
    shape: Shape
    """Requested X, Y, Z."""
    working_shape: Shape
    """The grid the network works on."""
    status: Literal["measured", "out of memory"]
    parameters: int
    predicted_bytes: int
    """Peak of a training step, by `ossnet.planning.predict`."""
    operations: dict[str, Operations] | None = None
    """Multiply-accumulates of an exact training step by part; None for U-Nets."""
    roofline_s: float | None = None
    """Seconds that these operations take at the measured rate of matrix products, in the same precision."""
    peak_bytes: int | None = None
    """Peak of a training step, by `ossnet.planning.measure`."""
    reserved_bytes: int | None = None
    """Held by CUDA's caching allocator at its peak; on the CPU the same as `peak_bytes`."""
    forward_s: float | None = None
    backward_s: float | None = None
    update_s: float | None = None
    step_s: float | None = None
    """Forward, backward and update."""
    step_median_s: float | None = None
    roofline_ratio: float | None = None
    """`step_s` over `roofline_s`."""
    training_predictions_per_s: float | None = None
    """Points, or voxels of a U-Net, a second of training."""
    inference_predictions_per_s: float | None = None
    """Points decoded, or voxels of a U-Net's whole volume, a second without gradients."""


@dataclass(frozen=True)
class ModelsResult(BenchmarkResult):
    """All rows, with the machine and the settings of the measurement."""

    device: str
    """`cpu` or the name of the GPU."""
    processor: str
    versions: dict[str, str]
    threads: int
    precision: str
    compiled: bool
    dataset: str
    points: int
    batch_size: int
    repeats: int
    statistic: str
    command: str
    gflops: dict[str, float]
    """Rate of matrix products by precision, measured in the same run."""
    rows: tuple[ModelRow, ...]

    def summary(self) -> dict[str, object]:
        """Human-readable rows."""
        return {"rows": len(self.rows), "matrix products": rates(self.gflops)}
