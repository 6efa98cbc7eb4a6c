"""Ray Data: a store prepared in parallel, and references to its cases streamed to training workers."""

import logging
import os
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ossnet.config_tree import from_dict, to_dict
from ossnet.data.layouts import Case
from ossnet.data.phantom import write_phantom
from ossnet.data.prepare.build import PrepareReport, complete, make_case, open_store_for_writing, remove_stale
from ossnet.data.prepare.plan import PrepareConfig, PreparePlan, check_problems, finished, make_plan
from ossnet.data.prepare.progress import progress
from ossnet.data.store.case_file import write_case
from ossnet.data.store.store import Manifest
from ossnet.distributed.cluster.connection import connect, output_root
from ossnet.distributed.cluster.nodes import nodes
from ossnet.errors import UserError

if TYPE_CHECKING:
    from ossnet.distributed.data.sharding import DeterministicSharding, reference_dataset, shard_references

__all__ = ["DeterministicSharding", "prepare", "reference_dataset", "shard_references"]


_LOST_WORKERS = 3  # how often a task starts again when its process is gone; Ray Data would do so for ever
_TASK = 8 << 20  # bytes of voxels that are worth a task's start of about 50 ms


def prepare(config: PrepareConfig) -> PrepareReport:
    """Make a store, one task a case (or some small ones), as many at once as CPUs and RAM allow.

    What is there already is not made again, so a run that was cut short goes on, and the same command again
    does nothing. A cluster is asked for only when there is a case to make.

    Raises:
        UserError: the source or the output cannot be used, no case can, or (strict) one cannot.
    """
    start = time.monotonic()
    plan = make_plan(config)
    manifest, made = finished(plan), list[str]()
    if manifest is None:
        manifest, made = _prepare(plan)
    else:
        remove_stale(config.output, manifest)
    check_problems(plan, manifest.excluded)
    return PrepareReport(
        output=config.output,
        splits={name: len(cases) for name, cases in manifest.splits.items()},
        excluded=manifest.excluded,
        prepared=len(made),
        seconds=time.monotonic() - start,
        voxel_megabytes=sum(plan.surveys[case].voxel_bytes for case in made) / 1e6,
    )


def phantom_study(source: Path | None, output: Path | None) -> tuple[Path, Path]:
    """Source and output with defaults filled in: a phantom under `runs/phantom`, made where it is missing.

    Raises:
        UserError: a source without an output.
    """
    home = output_root() / "runs" / "phantom"
    if source is None:
        return write_phantom(home / "scans"), output or home / "store"
    if output is None:
        msg = "--output: expected the folder of the store, found none; name it"
        raise UserError(msg)
    return source, output


def _prepare(plan: PreparePlan) -> tuple[Manifest, list[str]]:
    """The store's manifest and the cases made for it."""
    excluded, made = dict(plan.excluded), list[str]()
    with open_store_for_writing(plan):
        missing = plan.missing
        if missing:
            with connect():
                for case, problem in _make_all(plan, missing):
                    if problem:
                        excluded[case] = problem
                        check_problems(plan, excluded)
                    else:
                        made.append(case)
        return complete(plan, excluded), made


def _make_all(plan: PreparePlan, cases: list[Case]) -> Iterator[tuple[str, str | None]]:
    """Case ids as they are done, each with the reason where it cannot be used."""
    import ray.data

    logging.getLogger("ray.data").setLevel(
        logging.CRITICAL
    )  # its import sets one; what it tells is told below
    memory = max(plan.surveys[case.id].memory for case in cases)
    _check_memory(plan, memory)
    items = [{"case": to_dict(case), "path": str(plan.path(case).absolute())} for case in cases]
    total = sum(plan.surveys[case.id].voxel_bytes for case in cases)
    rows = ray.data.from_items(items, override_num_blocks=_tasks(len(items), total))
    rows.context.enable_progress_bars = False
    # What every task gets is the plan without its lists, which grow with the number of cases.
    brief = replace(plan, source=replace(plan.source, cases=()), surveys={}, excluded={}, splits=None)
    with warnings.catch_warnings(action="ignore"):  # there is no other way yet to limit how often it tries
        made = rows.map(_make_row, fn_args=(brief,), num_cpus=1, memory=memory, max_retries=_LOST_WORKERS)
    left = {case.id: case for case in cases}
    with progress("preparing", cases=len(cases), size=total) as advance:
        try:
            for row in made.iter_rows():
                del left[row["case"]]
                advance(plan.surveys[row["case"]].voxel_bytes)
                if row["fatal"]:
                    raise UserError(row["fatal"])
                yield row["case"], row["problem"]
        except ray.exceptions.RayError as error:
            raise UserError(_lost(plan, list(left.values()), error)) from error


def _tasks(cases: int, size: int) -> int:
    """One a case, but for small cases, which the start of a task would delay."""
    cpus = int(sum(node.get("CPU", 0) for node in nodes()))
    return min(cases, max(size // _TASK, 2 * cpus, 1))


def _make_row(row: dict[str, Any], plan: PreparePlan) -> dict[str, Any]:
    """Make one case on whichever node; what cannot be written ends the run, what cannot be read the case."""
    case, path = from_dict(Case, row["case"]), Path(row["path"])
    done: dict[str, Any] = {"case": case.id, "problem": None, "fatal": None}
    try:
        stored = make_case(case, plan)
    except UserError as error:
        return done | {"problem": str(error)}
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        return done | {
            "problem": f"{case.images[0]}: the case could not be prepared ({reason}); look at its files"
        }
    try:
        write_case(path, stored)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        return done | {"fatal": f"{path}: cannot be written ({reason}); make room or name another --output"}
    return done


def _lost(plan: PreparePlan, left: list[Case], error: Exception) -> str:
    """What to tell where processes were killed again and again; which case each had is not known any more."""
    largest = max(left, key=lambda case: plan.surveys[case.id].memory)
    memory = plan.surveys[largest.id].memory / 2**30
    others = f" or one of {len(left) - 1} others" if len(left) > 1 else ""
    return (
        f"{largest.images[0]}: the process of this case{others} was lost {_LOST_WORKERS + 1} times "
        f"({type(error).__name__}), as happens when RAM runs out; {memory:.1f} GiB were reserved for it: "
        "make room and give the same command again, which goes on where this stopped"
    )


def _check_memory(plan: PreparePlan, memory: int) -> None:
    largest = max(node.get("memory", 0) for node in nodes())
    if memory > largest:
        needed, there = (f"{size / 2**30:.1f} GiB" for size in (memory, largest))
        msg = (
            f"{plan.source.root}: expected a node with {needed} of free RAM for the largest case, "
            f"found {there}; use a larger machine or remove the case"
        )
        raise UserError(msg)


def __getattr__(name: str) -> Any:
    """The streaming half, imported on first use: it needs `ray.train`, which preparing does without."""
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from ossnet.distributed.data import sharding as references

    return getattr(references, name)
