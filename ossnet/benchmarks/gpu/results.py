"""Results of the check of a GPU, and their file."""

from dataclasses import dataclass
from typing import Literal

from ossnet.benchmarks.result import BenchmarkResult
from ossnet.planning.margin import MemoryOverhead
from ossnet.sampling.grid import Shape


@dataclass(frozen=True)
class PytestRow:
    """A test of `pytest -m gpu`."""

    name: str
    outcome: Literal["passed", "skipped", "failed"]
    seconds: float
    message: str = ""
    """The last line of why it failed or was skipped."""

    @property
    def passed(self) -> bool:
        return self.outcome != "failed"


@dataclass(frozen=True)
class ParityRow:
    """What the device computes, compared with the CPU."""

    what: Literal["batch", "network"]
    network: str
    options: str
    """Of a batch the augmentation, of a network the precision on the device."""
    values: str
    """The tensor compared; of a network also `gradients`, all in one."""
    error: float
    """Of a batch the largest difference, relative to the value where that is above 1; of a network the norm
    of the difference relative to that of the CPU's values."""
    tolerance: float
    """The largest error that passes."""

    @property
    def passed(self) -> bool:
        return self.error <= self.tolerance  # NaN is no pass


@dataclass(frozen=True)
class PeakRow:
    """The peak of a training step: predicted, measured, and what the GPU needs for it, in bytes."""

    network: str
    shape: Shape
    precision: str
    volumes: int
    predicted_bytes: int
    allocated_bytes: int
    reserved_bytes: int
    """Held by the caching allocator at its peak; on the CPU the same as `allocated_bytes`."""
    outside_bytes: int
    """Used on the device outside of the allocator: the context, libraries, and other processes."""

    @property
    def needed_bytes(self) -> int:
        return self.reserved_bytes + self.outside_bytes


@dataclass(frozen=True)
class StepRow:
    """A short training through `run_training`, and the host's part of its stream alone."""

    network: str
    shape: Shape
    precision: str
    batch_size: int
    steps_per_batch: int
    device_cache_gib: float
    """Volumes kept on the device from epoch to epoch."""
    loader_threads: int
    step_s: float
    """Seconds a step, with its wait for data; from the third epoch on."""
    wait_fraction: float
    """`time/data_wait_fraction` of the same steps."""
    first_batch_s: float
    """Seconds until the run's first batch."""
    host_s: float
    """Seconds a volume to read and to copy to pinned memory, with these threads and nothing beside."""
    draw_s: float
    """Seconds a volume to send and to draw from, on the device, with nothing beside."""
    predicted_bytes: int
    allocated_bytes: int
    reserved_bytes: int
    loss: float
    """Mean of the last epoch."""


@dataclass(frozen=True)
class VolumeRow:
    """The prediction of one whole volume."""

    network: str
    shape: Shape
    precision: str
    seconds: float
    """The second of two predictions."""
    queried: int
    """Voxels that the network decided."""
    wrong: int | None
    """Voxels decided otherwise than the known shape is; None for U-Nets, which know none."""
    predicted_bytes: int
    allocated_bytes: int
    reserved_bytes: int


Status = Literal["done", "out of time", "failed"]
Row = PytestRow | ParityRow | PeakRow | StepRow | VolumeRow


@dataclass(frozen=True)
class Problem:
    """What could not be measured, and why."""

    part: str
    where: str
    error: str
    """The traceback, or a sentence."""


@dataclass(frozen=True)
class PartRecord:
    """How a part of the check ended; its rows until then are kept."""

    name: str
    status: Status
    seconds: float


@dataclass(frozen=True)
class GpuResult(BenchmarkResult):
    """All rows so far, with the machine."""

    device: str
    """`cpu` or the name of the GPU."""
    memory_bytes: int
    """Of the GPU; of a CPU 0."""
    processor: str
    versions: dict[str, str]
    command: str
    parts: tuple[PartRecord, ...] = ()
    problems: tuple[Problem, ...] = ()
    tests: tuple[PytestRow, ...] = ()
    parity: tuple[ParityRow, ...] = ()
    peaks: tuple[PeakRow, ...] = ()
    steps: tuple[StepRow, ...] = ()
    volumes: tuple[VolumeRow, ...] = ()
    margin: MemoryOverhead | None = None
    """Fitted to `peaks`; None on a CPU, and while there are no peaks."""

    @property
    def passed(self) -> bool:
        """Whether all parts are done, without a problem, a failed test or results that differ."""
        ended = all(part.status == "done" for part in self.parts)
        passed = [row.passed for row in self.tests] + [row.passed for row in self.parity]
        return ended and not self.problems and all(passed)

    def summary(self) -> dict[str, object]:
        """Human-readable rows."""
        failed = [row.name for row in self.tests if not row.passed]
        different = [f"{row.network} {row.values}" for row in self.parity if not row.passed]
        rows: dict[str, object] = {part.name: f"{part.status} in {part.seconds:.0f} s" for part in self.parts}
        rows |= {
            "tests": f"{len(self.tests)}, failed: {', '.join(failed) or 'none'}",
            "CPU against device": f"{len(self.parity)} compared, different: {', '.join(different) or 'none'}",
            "problems": "; ".join(f"{each.part} {each.where}".strip() for each in self.problems) or "none",
        }
        return rows if self.margin is None else rows | {"margin": f"{self.margin}"}
