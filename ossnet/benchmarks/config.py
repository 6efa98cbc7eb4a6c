"""The settings of each benchmark; they do without torch, so that a command line loads fast."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ossnet.config_tree import unknown_name
from ossnet.errors import UserError
from ossnet.inference import InferenceConfig
from ossnet.inference.config import Axis, Method
from ossnet.models import PRESETS
from ossnet.models.configs import OccupancyConfig

Shape = tuple[int, int, int]
PAPER_MODELS = (
    "feature-query-patch",
    "feature-pyramid",
    "oss-net-c",
    "oss-net-d",
    "unet-3d",
    "unet-2d",
    "residual-encoder-unet",
)
KernelPrecision = Literal["float32", "float32-compiled", "bf16", "bf16-compiled"]


@dataclass(frozen=True)
class NetworksBenchmarkConfig:
    """Settings of the comparison of networks in training and inference."""

    networks: tuple[str, ...] = field(default_factory=lambda: tuple(PRESETS))
    """Presets to compare."""
    shapes: tuple[str, ...] = ("32x32x32", "64x64x64", "96x96x96")
    """Sizes of a volume in voxels; each is rounded up to what a network can halve."""
    dataset: Literal["brats", "lits", "none"] = "none"
    """Networks as the paper sizes them for a data set (brats: 256x256x160), or for each shape."""
    points: int = 1024
    """Points a volume and step of occupancy networks (the paper: 16384)."""
    batch_size: int = 1
    """Volumes a step."""
    precision: Literal["float32", "bf16"] = "float32"
    """bf16: matrix products and convolutions in bfloat16."""
    compile: bool = False
    """Have torch's compiler make the arithmetic between matrix products, as in training."""
    repeats: int = 3
    """Timed steps after one of warm-up; the fastest and the median step are reported."""
    threads: int | None = None
    """Threads of torch on the CPU; by default as many as torch takes."""
    device: str | None = None
    """Where to measure, as torch names it; by default a GPU if there is one."""

    def __post_init__(self) -> None:
        """Reject what cannot be measured, naming the option.

        Raises:
            UserError: an unknown network (names the nearest), a shape that is none, or a number below 1.
        """
        _check_given(self, "networks", "shapes")
        _check_presets(self.networks)
        _check_counts(self, "points", "batch_size", "repeats", "threads")
        for text in self.shapes:
            parse_shape(text)


@dataclass(frozen=True)
class MemoryBenchmarkConfig:
    """Settings of the test of predicted memory on random configurations."""

    networks: tuple[str, ...] = field(default_factory=lambda: tuple(PRESETS))
    """Presets, in turn."""
    draws: int = 72
    """Configurations to draw at random."""
    seed: int = 0
    """Seed of the random configurations."""
    device: str | None = None
    """Where to measure, as torch names it; by default a GPU if there is one."""

    def __post_init__(self) -> None:
        """Reject what cannot be measured, naming the option.

        Raises:
            UserError: an unknown network (names the nearest), or a number below 1.
        """
        _check_given(self, "networks")
        _check_presets(self.networks)
        _check_counts(self, "draws")


@dataclass(frozen=True)
class ClassesBenchmarkConfig:
    """Settings of the comparison of networks over the number of classes."""

    networks: tuple[str, ...] = ("oss-net-c", "feature-query", "unet-3d")
    """Presets to compare."""
    classes: tuple[int, ...] = (2, 10, 30, 117, 300, 1000)
    """Numbers of classes to predict."""
    measured: tuple[int, ...] = ()
    """Numbers of classes at which real steps are taken, too."""
    measured_networks: tuple[str, ...] = ("oss-net-c", "feature-query")
    """Networks that take them: a U-Net's take minutes on a CPU."""
    shape: str = "192x192x192"
    """Size of the volume in voxels."""
    crop: str = "128x128x128"
    """What U-Nets train on."""
    points: int = 2**14
    """Points a volume and step of occupancy networks (the paper: 16384)."""
    device: str | None = None
    """Where to measure, as torch names it; by default a GPU if there is one."""

    def __post_init__(self) -> None:
        """Reject what cannot be measured, naming the option.

        Raises:
            UserError: an unknown network (names the nearest), a shape that is none, or a number below 1.
        """
        _check_given(self, "networks", "classes")
        _check_presets((*self.networks, *self.measured_networks))
        _check_counts(self, "points")
        if min((*self.classes, *self.measured)) < 1:
            raise UserError("classes", expected="at least 1", found=str(self.classes))
        for text in (self.shape, self.crop):
            parse_shape(text)


@dataclass(frozen=True)
class ResolutionBenchmarkConfig:
    """Settings of the comparison of networks over the resolution."""

    networks: tuple[str, ...] = field(default_factory=lambda: tuple(PRESETS))
    """Presets to compare, as the paper sizes them for BraTS."""
    shapes: tuple[str, ...] = tuple(f"{edge}x{edge}x{edge}" for edge in (64, 96, 128, 192, 256, 384, 512))
    """Sizes of the volume in voxels, at which memory is predicted."""
    trained_up_to: str = "64x64x64"
    """The largest volume on which a training step is really taken and measured, where it fits here."""
    inferred_up_to: str = "64x64x64"
    """The largest volume that is really segmented; every voxel is queried, which takes minutes above this."""
    crop: str = "128x128x128"
    """What U-Nets train on where they do not see the whole volume."""
    points: int = 2**14
    """Points a volume and step of occupancy networks (the paper: 16384)."""
    device: str | None = None
    """Where to measure, as torch names it; by default a GPU if there is one."""

    def __post_init__(self) -> None:
        """Reject what cannot be measured, naming the option.

        Raises:
            UserError: an unknown network (names the nearest), a shape that is none, or a number below 1.
        """
        _check_given(self, "networks", "shapes")
        _check_presets(self.networks)
        _check_counts(self, "points")
        for text in (*self.shapes, self.trained_up_to, self.inferred_up_to, self.crop):
            parse_shape(text)


@dataclass(frozen=True)
class InputBenchmarkConfig:
    """Settings of the comparison of input pipelines."""

    source: Path | None = None
    """Folder of scans in any layout that `prepare` reads; by default a phantom that is made."""
    cases: int = 2
    """Cases to prepare samples from: the source's first ones, or the phantom's."""
    shape: str = "64x64x48"
    """Voxels of the phantom."""
    networks: tuple[str, ...] = ("oss-net-c", "oss-net-d")
    """Presets whose input to prepare; occupancy networks only."""
    points: int = 2**14
    """Points a volume (the paper: 16384)."""
    border_fraction: float = 0.5
    """Fraction of the points in the paper's border band; the rest is uniform."""
    augment: bool = True
    """The paper's flips, brightness and noise, each with a chance of one half."""
    repeats: int = 3
    """Timed passes over the cases, after one of warm-up."""
    threads: int = 1
    """Threads of torch."""
    step_s: tuple[float, ...] = (0.25, 0.06)
    """Seconds of a training step on a device, for which to measure how long it would wait for data (here an
    NVIDIA L4's and an A100's for OSS-Net C and 8 BraTS volumes)."""
    batch_size: int = 8
    """Volumes of such a step."""
    loader_threads: int = 2
    """Threads that read for such a step."""

    def __post_init__(self) -> None:
        """Reject what cannot be measured, naming the option.

        Raises:
            UserError: an unknown or dense network, a shape that is none, or a number out of its range.
        """
        _check_given(self, "networks")
        _check_presets(self.networks)
        for name in self.networks:
            if not isinstance(PRESETS[name], OccupancyConfig):
                raise UserError("networks", expected="occupancy networks, which train on points", found=name)
        _check_counts(self, "cases", "points", "repeats", "threads", "batch_size", "loader_threads")
        if not all(0 < seconds < float("inf") for seconds in self.step_s):
            raise UserError("step-s", expected="positive seconds", found=str(self.step_s))
        if not 0 <= self.border_fraction <= 1:
            raise UserError(
                "border-fraction", expected="a number from 0 to 1", found=str(self.border_fraction)
            )
        parse_shape(self.shape)


@dataclass(frozen=True)
class InferenceBenchmarkConfig:
    """Settings of the comparison of inference methods."""

    networks: tuple[str, ...] = ("oss-net-c", "oss-net-d", "unet-3d")
    """Presets, as the paper sizes them for `dataset`; U-Nets see windows."""
    dataset: Literal["brats", "lits"] = "brats"
    """brats: four modalities; lits: a CT."""
    shapes: tuple[str, ...] = ("64x64x64",)
    """Sizes of a volume in voxels; the reference was measured at 96x96x96 and 128x128x128."""
    methods: tuple[Method, ...] = ("hierarchical", "paper", "paper-guided", "dense")
    """Inference methods of occupancy networks."""
    precision: tuple[KernelPrecision, ...] = ("float32", "bf16-compiled")
    """Precision of matrix products, and whether torch's compiler makes what lies between them."""
    dense_voxels: int = 2**16
    """Voxels that the dense method is timed on; the time of all follows from their number."""
    window: str = "128x128x128"
    """Window of a U-Net in voxels; adjacent windows overlap by a quarter."""
    points_per_chunk: int = InferenceConfig.points_per_chunk
    """Points decoded at once."""
    repeats: int = 1
    """Predictions of a volume; the fastest is reported."""
    threads: int = 1
    """Threads of torch."""

    def __post_init__(self) -> None:
        """Reject what cannot be measured, naming the option.

        Raises:
            UserError: an unknown network (names the nearest), a shape that is none, or a number below 1.
        """
        _check_given(self, "networks", "shapes", "methods", "precision")
        _check_presets(self.networks)
        _check_counts(self, "dense_voxels", "points_per_chunk", "repeats", "threads")
        for text in (*self.shapes, self.window):
            parse_shape(text)


@dataclass(frozen=True)
class MethodsBenchmarkConfig:
    """Which cases trained networks predict, and how."""

    split: Literal["training", "validation", "all"] = "validation"
    """Cases to predict; a test split is not read, as methods are chosen by what is seen here."""
    cases: int | None = None
    """Only the first so many of them."""
    methods: tuple[Method, ...] = ("hierarchical", "paper")
    """Inference methods of occupancy networks, each compared with dense, which is always measured too."""
    precision: tuple[KernelPrecision, ...] = ("float32",)
    """Precision of matrix products, and whether torch's compiler makes what lies between them."""
    threads: int = 1
    """Threads of torch."""

    def __post_init__(self) -> None:
        """Reject what cannot be measured, naming the option.

        Raises:
            UserError: no method or precision, or a number below 1.
        """
        _check_given(self, "methods", "precision")
        _check_counts(self, "cases", "threads")


@dataclass(frozen=True)
class PaperBenchmarkConfig:
    """Which networks are trained and compared, how often and how long."""

    models: tuple[str, ...] = PAPER_MODELS
    """Presets to compare."""
    time_s: float = 1200.0
    """Seconds of training of a run: of the CPU, or on a GPU those of the wall."""
    seeds: int = 3
    """Runs of each network on the store's own splits."""
    folds: int | None = None
    """Folds of the cross-validation that takes the place of seeds."""
    flips: tuple[Axis, ...] = ()
    """Axes along which cases are flipped too, predictions being averaged."""

    def __post_init__(self) -> None:
        """Reject what cannot be compared, naming the option.

        Raises:
            UserError: an unknown network (names the nearest), none or one twice, or a number out of range.
        """
        _check_given(self, "models")
        _check_presets(self.models, "models")
        if len(set(self.models)) < len(self.models):
            raise UserError("models", expected="each network once", found=" ".join(self.models))
        _check_counts(self, "seeds")
        if self.folds is not None and self.folds < 2:
            raise UserError("folds", expected="at least 2", found=str(self.folds))


@dataclass(frozen=True)
class ScalingBenchmarkConfig:
    """Settings of the comparison of numbers of workers."""

    data: Path | None = None
    """Store that `prepare` wrote; by default a small phantom that this job makes."""
    model: str = "oss-net-c"
    """Preset of the network, with the recipe that `train` chooses on a CPU."""
    workers: tuple[int, ...] = (1, 2)
    """Numbers of workers; the first is what the others are compared with."""
    batch_size: int = 8
    """Volumes a step, over all workers."""
    steps: int = 10
    """Measured steps of each training, at least: whole epochs are measured."""
    repeats: int = 3
    """Trainings of each number of workers, which take turns."""

    def __post_init__(self) -> None:
        """Reject what cannot be compared, naming the option.

        Raises:
            UserError: an unknown network (names the nearest), no two numbers of workers, or a number below 1.
        """
        _check_presets((self.model,), "model")
        _check_counts(self, "batch_size", "steps", "repeats")
        if min(self.workers, default=0) < 1 or len(set(self.workers)) < max(len(self.workers), 2):
            raise UserError(
                "workers",
                expected="two or more numbers, each of them once",
                found=" ".join(map(str, self.workers)) or "none",
            )


def parse_shape(text: str) -> Shape:
    """`256x256x160` as X, Y, Z in voxels.

    Raises:
        UserError: not three positive whole numbers.
    """
    match = re.fullmatch(r"(\d+)x(\d+)x(\d+)", text)
    shape = tuple(map(int, match.groups())) if match else (0, 0, 0)
    if min(shape) < 1:
        raise UserError(f"shape {text!r}", expected="three positive edges in voxels, as in 64x64x64")
    return shape[0], shape[1], shape[2]


def shape_name(shape: Shape) -> str:
    """`(256, 256, 160)` as `256x256x160`."""
    return "x".join(map(str, shape))


def _check_given(settings: object, *options: str) -> None:
    for option in options:
        if not getattr(settings, option):
            raise UserError(
                option, expected="one or more", found="none", remedy="leave the option out for the default"
            )


def _check_presets(networks: Sequence[str], option: str = "networks") -> None:
    for name in networks:
        if name not in PRESETS:
            raise unknown_name(option, "network", name, PRESETS)


def _check_counts(settings: object, *options: str) -> None:
    """Reject counts below 1; None is a count that is chosen later."""
    for option in options:
        value = getattr(settings, option)
        if value is not None and value < 1:
            raise UserError(option.replace("_", "-"), expected="at least 1", found=str(value))
