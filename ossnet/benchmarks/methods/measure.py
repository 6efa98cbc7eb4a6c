"""Trained networks on the cases of a store, by every method: what each loses against deciding every voxel."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from ossnet.benchmarks.config import KernelPrecision, MethodsBenchmarkConfig
from ossnet.benchmarks.inference.results import WINDOWS
from ossnet.benchmarks.machine import processor, torch_threads
from ossnet.benchmarks.methods.results import STATISTIC, MethodRow, MethodsResult
from ossnet.data import Store
from ossnet.data.labels.scheme import ClassScheme
from ossnet.errors import UserError
from ossnet.evaluation.cases import check_task, score_case, split_cases
from ossnet.evaluation.mask_metrics import detect
from ossnet.inference import Predictor
from ossnet.inference.config import Method
from ossnet.memory import track_peak
from ossnet.memory.device import resolve_device
from ossnet.models import DenseNetwork, OccupancyNetwork
from ossnet.output.versions import git_commit, versions
from ossnet.training.checkpoint_files import CHECKPOINT


def measure_methods(
    settings: MethodsBenchmarkConfig,
    checkpoints: Sequence[Path],
    store: Store,
    *,
    command: str,
    progress: Callable[[MethodRow], None],
) -> MethodsResult:
    """Predict every case with every network by every method, one after the other.

    Networks predict a case in turn, so that a busy machine slows all of them. Components that a checkpoint
    says to remove as too small stay: what is compared are the network's decisions.

    Args:
        settings: the cases and methods.
        checkpoints: folders that training wrote.
        command: the command line, stored in the result.
        progress: called with each row when it is measured.

    Raises:
        UserError: no cases, two checkpoints of one name, one of another task than the store's, or one without
            a method; raised before anything is measured.
    """
    device = resolve_device(None)
    cases = split_cases(store, settings.split)[: settings.cases]
    networks = [_Trained.read(path, each) for path in checkpoints for each in settings.precision]
    names = [network.name for network in networks[:: len(settings.precision)]]
    if len(set(names)) < len(names):
        raise UserError("checkpoint", expected="folders of different names", found=", ".join(names))
    for network in networks:
        network.check(settings.methods, store)
    rows = list[MethodRow]()
    with torch_threads(settings.threads):
        for case in cases:
            for network in networks:
                if case == cases[0]:
                    network.warm_up(store, case)
                for row in network.rows(store, case, settings.methods, device):
                    rows.append(row)
                    progress(row)
    with track_peak(device) as idle:  # reads the device
        pass
    return MethodsResult(
        device=idle.memory.device,
        processor=processor(),
        threads=settings.threads,
        clock="CPU seconds" if device.type == "cpu" else "seconds",
        versions=versions(),
        commit=git_commit(),
        statistic=STATISTIC,
        command=command,
        rows=tuple(rows),
    )


@dataclass(frozen=True)
class _Trained:
    """A network in one precision."""

    name: str
    """Name of its checkpoint's folder."""
    predictor: Predictor
    precision: KernelPrecision

    @classmethod
    def read(cls, path: Path, precision: KernelPrecision) -> "_Trained":
        predictor = Predictor.from_checkpoint(
            path,
            precision="bf16" if precision.startswith("bf16") else "float32",
            compiled=precision.endswith("-compiled"),
        )
        folder = path.resolve()
        name = folder.parent.name if folder.name == CHECKPOINT else folder.name
        return cls(name, replace(predictor, components=None), precision)

    def check(self, methods: Sequence[Method], store: Store) -> None:
        """Reject a network of another task, or without a method.

        Raises:
            UserError: names what differs.
        """
        check_task(self.predictor.task, store)
        network = self.predictor.network
        guidable = not isinstance(network, OccupancyNetwork) or network.config.auxiliary_head
        if "paper-guided" in methods and not guidable:
            expected = "networks with a coarse prediction for paper-guided"
            raise UserError("methods", expected=expected, found=self.name, remedy="leave paper-guided out")

    def by(self, method: Method) -> Predictor:
        return replace(self.predictor, settings=replace(self.predictor.settings, method=method))

    def warm_up(self, store: Store, case: str) -> None:
        """Predict once, so that nothing is compiled or chosen during the measurement."""
        score_case(self.by("hierarchical"), store, case)

    def rows(
        self, store: Store, case: str, methods: Sequence[Method], device: torch.device
    ) -> Iterator[MethodRow]:
        """The dense prediction, or a U-Net's, then those of the methods."""
        dense = None
        windows = isinstance(self.predictor.network, DenseNetwork)
        compared = () if windows else [each for each in methods if each != "dense"]
        for method in ("dense", *compared):
            now = time.process_time if device.type == "cpu" else time.monotonic
            score, prediction = score_case(self.by(method), store, case, now=now)
            dense = prediction.classes if dense is None else dense
            components, lost = lost_components(self.predictor.task.scheme, dense, prediction.classes)
            x, y, z = prediction.classes.shape
            yield MethodRow(
                checkpoint=self.name,
                network=self.predictor.name,
                case=case,
                shape=(x, y, z),
                method=WINDOWS if windows else method,
                precision=self.precision,
                dice=score.dice,
                seconds=score.predicted_s or 0.0,
                decided=prediction.n_queried,
                foreground=int(dense.count_nonzero()),
                differing=int((prediction.classes != dense).sum()),
                components=components,
                lost=lost,
            )


def lost_components(
    scheme: ClassScheme, dense: UInt8[Tensor, "X Y Z"], found: UInt8[Tensor, "X Y Z"]
) -> tuple[int, int]:
    """The connected components of all classes of a dense prediction, and those of which nothing was found."""
    each = [
        detect(scheme.in_class(found.numpy(), index), scheme.in_class(dense.numpy(), index))
        for index in range(scheme.classes)
    ]
    return sum(one.lesions for one in each), sum(one.lesions - one.detected for one in each)
