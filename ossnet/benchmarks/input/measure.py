"""How fast samples are prepared: by ossnet, by nibabel in a torch DataLoader, from MONAI's cache."""

import logging
import platform
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch.utils.data import DataLoader

from ossnet.benchmarks.config import InputBenchmarkConfig, parse_shape
from ossnet.benchmarks.input.monai_samples import persistent_dataset
from ossnet.benchmarks.input.nnunet_samples import (
    nnunet_import_error,
    nnunet_samples,
    write_nnunet_cases,
)
from ossnet.benchmarks.input.reference_samples import BORDER, ReferenceDataset, write_borders
from ossnet.benchmarks.input.results import OSSNET, STATISTIC, InputResult, InputRow
from ossnet.benchmarks.input.waiting import DeviceWait, HostRate, device_wait, host_rate
from ossnet.benchmarks.machine import processor, torch_threads
from ossnet.config import Config
from ossnet.data import Case, PrepareConfig, Store, write_phantom
from ossnet.data.prepare.build import finalize, make_case
from ossnet.data.prepare.plan import check_excluded, make_plan
from ossnet.data.store.case_file import write_case
from ossnet.models import OccupancyConfig
from ossnet.sampling.loader import load_volumes
from ossnet.sampling.sampler import SampleKey
from ossnet.sampling.volume import Volume
from ossnet.training_run import run_batch_maker

logger = logging.getLogger(__name__)


def measure_input(
    settings: InputBenchmarkConfig, *, command: str, progress: Callable[[InputRow], None]
) -> InputResult:
    """Measure all pipelines for all networks, one after the other, in this process.

    Args:
        settings: the scans and networks to measure.
        command: the command line, stored in the result.
        progress: called with each row when it is measured.

    Raises:
        UserError: the source cannot be used.
    """
    rows: list[InputRow] = []
    with tempfile.TemporaryDirectory(prefix="ossnet-bench-") as name, torch_threads(settings.threads):
        study = _Study.make(settings, Path(name))
        for network in settings.networks:
            for row in _compare(study, study.configure(network)):
                rows.append(row)
                progress(row)
        shapes = tuple(study.store.manifest.cases[case.id].statistics.shape for case in study.cases)
        channels = len(study.store.task.modalities)
        host, waits = _host_part(study)
        sent = max(
            Volume.of(study.store.case(case.id), SampleKey(0, 0, case.id)).nbytes for case in study.cases
        )
    libraries = ["torch", "numpy", "nibabel", "monai"]
    if nnunet_import_error() is None:
        libraries.append("nnunetv2")
    return InputResult(
        processor=processor(),
        versions={"python": platform.python_version(), **{name: version(name) for name in libraries}},
        threads=settings.threads,
        source="phantom" if settings.source is None else settings.source.name,
        shapes=shapes,
        channels=channels,
        points=settings.points,
        border_fraction=settings.border_fraction,
        augment=settings.augment,
        repeats=settings.repeats,
        statistic=STATISTIC,
        command=command,
        rows=tuple(rows),
        sent_bytes=sent,
        host=host,
        waits=waits,
    )


_WAYS: tuple[tuple[int, bool], ...] = ((1, False), (4, False), (1, True))
"""Steps a batch, and whether volumes stay on the device."""


def _host_part(study: "_Study") -> tuple[tuple[HostRate, ...], tuple[DeviceWait, ...]]:
    settings, cases = study.settings, [case.id for case in study.cases]
    count = settings.batch_size * (settings.repeats + 1)
    host = tuple(host_rate(study.store, cases, volumes=count, threads=threads) for threads in (1, 2))
    waits = tuple(
        device_wait(
            study.store,
            cases,
            step_s=step_s,
            batch_size=settings.batch_size,
            threads=settings.loader_threads,
            steps=8 * settings.repeats,
            steps_per_batch=steps_per_batch,
            on_device=on_device,
        )
        for step_s in settings.step_s
        for steps_per_batch, on_device in _WAYS
    )
    return host, waits


@dataclass(frozen=True)
class _Study:
    """A study's cases, as files and as a store."""

    settings: InputBenchmarkConfig
    folder: Path
    cases: Sequence[Case]
    store: Store
    once_s: float
    """Seconds a case to make the store."""

    @classmethod
    def make(cls, settings: InputBenchmarkConfig, folder: Path) -> "_Study":
        source = settings.source
        if source is None:
            source = write_phantom(folder / "scans", settings.cases, parse_shape(settings.shape))
        began = time.perf_counter()
        plan = make_plan(
            PrepareConfig(
                source,
                folder / "store",
                normalization=("zscore",),
                target="foreground",
                validation_fraction=0,
            )
        )
        check_excluded(plan, plan.excluded)
        surveys = {info.id: info for info in islice(plan.cases, settings.cases)}
        plan = replace(plan, surveys=surveys)
        for info in surveys.values():
            plan.path(info).parent.mkdir(parents=True, exist_ok=True)
            write_case(plan.path(info), make_case(info, plan.recipe))
        cases = [info.case for info in surveys.values()]
        finalize(plan, {})
        once = (time.perf_counter() - began) / len(cases)
        return cls(settings, folder, cases, Store.open(plan.output), once)

    def configure(self, network: str) -> Config:
        return (
            Config.preset(network, self.store)
            .replace(
                {
                    "sampling.points": self.settings.points,
                    "sampling.border_fraction": self.settings.border_fraction,
                    "sampling.border_width": BORDER,
                    "sampling.border_unit": "voxels",
                    "augmentation.probability": 0.5 * self.settings.augment,
                }
            )
            .resolve_for(self.store)
        )


@dataclass(frozen=True)
class _Pipeline:
    """An input pipeline that is ready to produce samples."""

    name: str
    samples: Iterator[object]
    once_s: float
    reading: list[float] | None = None
    """Seconds that reading took, one entry per sample."""


def _compare(study: _Study, config: Config) -> Iterator[InputRow]:
    """Measure one pipeline after the other: in turns, each would pay for memory that another released."""
    ossnet_s: float | None = None  # CPU time: other work of the machine does not count
    missing = nnunet_import_error()
    if missing is not None:
        logger.info(f"nnU-Net v2's loader is not measured: {missing}")
    others = (_nnunet,) if missing is None else ()
    for build in (_ossnet, _nibabel, _monai, _monai_threads, *others):
        pipeline, wall, cpu = build(study, config), list[float](), list[float]()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.training.seed)
            for _ in range((study.settings.repeats + 1) * len(study.cases)):
                began = time.perf_counter(), time.process_time()
                next(pipeline.samples)
                wall.append(time.perf_counter() - began[0])
                cpu.append(time.process_time() - began[1])
        warm = len(study.cases)
        seconds, cpu_s = mean(wall[warm:]), mean(cpu[warm:])
        ossnet_s = ossnet_s or cpu_s
        yield InputRow(
            network=config.model.name,
            pipeline=pipeline.name,
            sample_s=seconds,
            sample_cpu_s=cpu_s,
            reading_s=None if pipeline.reading is None else mean(pipeline.reading[warm:]),
            once_s=pipeline.once_s,
            volumes_per_s=1 / seconds,
            points_per_s=study.settings.points / seconds,
            times_ossnet=cpu_s / ossnet_s,
        )


def _ossnet(study: _Study, config: Config) -> _Pipeline:
    make = run_batch_maker(config, study.store.task)
    passes = range(study.settings.repeats + 1)
    steps = [[SampleKey(each, each, case.id)] for each in passes for case in study.cases]
    volumes = load_volumes(steps, study.store.case)
    return _Pipeline(OSSNET, map(make, volumes), study.once_s)


def _nibabel(study: _Study, config: Config) -> _Pipeline:
    model = _occupancy(config)
    borders = study.folder / "borders"
    borders.mkdir(exist_ok=True)
    began = time.perf_counter()
    write_borders(study.cases, borders)
    once = (time.perf_counter() - began) / len(study.cases)
    dataset = ReferenceDataset(study.cases, borders, model, study.settings, model.grid_multiple)
    return _Pipeline("nibabel", _passes(study, dataset), once, dataset.reading)


def _monai(study: _Study, config: Config) -> _Pipeline:
    dataset, once_s = _monai_dataset(study, config, "monai")
    return _Pipeline("monai", _passes(study, dataset), once_s)


def _monai_threads(study: _Study, config: Config) -> _Pipeline:
    from monai.data import ThreadDataLoader

    dataset, once_s = _monai_dataset(study, config, "monai-threads")
    loader = ThreadDataLoader(dataset, batch_size=None, num_workers=0, collate_fn=_itself)
    return _Pipeline("monai-threads", _again(loader, study.settings.repeats + 1), once_s)


def _itself(sample: object) -> object:
    return sample


def _again(loader: Iterable[object], passes: int) -> Iterator[object]:
    for _ in range(passes):
        yield from loader


def _nnunet(study: _Study, config: Config) -> _Pipeline:
    folder = study.folder / f"nnunet-{config.model.name}"
    folder.mkdir()
    began = time.perf_counter()
    write_nnunet_cases(study.cases, folder)
    once_s = (time.perf_counter() - began) / len(study.cases)
    shape = study.store.manifest.cases[study.cases[0].id].statistics.shape
    return _Pipeline("nnunet", nnunet_samples(folder, shape, augment=study.settings.augment), once_s)


def _monai_dataset(study: _Study, config: Config, name: str) -> tuple[Any, float]:
    """The data set with its cache filled, and the seconds a case that took."""
    model = _occupancy(config)
    dataset = persistent_dataset(
        study.cases, study.folder / f"{name}-{model.name}", model, study.settings, model.grid_multiple
    )
    began = time.perf_counter()
    for index in range(len(study.cases)):
        dataset[index]  # fills the cache
    return dataset, (time.perf_counter() - began) / len(study.cases)


def _occupancy(config: Config) -> OccupancyConfig:
    assert isinstance(config.model, OccupancyConfig)
    return config.model


def _passes(study: _Study, dataset: Any) -> Iterator[object]:
    """Samples in this process, one by one, without the copy that a batch would be."""
    for _ in range(study.settings.repeats + 1):
        yield from DataLoader(dataset, batch_size=None, num_workers=0)
