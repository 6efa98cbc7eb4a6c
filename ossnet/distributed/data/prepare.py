"""Ray Data: a store prepared in parallel, one task a case."""

import logging
import os
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

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

_MAX_RETRIES = 3  # of a task whose process was lost; Ray Data itself would try forever
_MIN_TASK_BYTES = 8 << 20  # of voxels, which are worth a task's start of about 50 ms


def prepare(config: PrepareConfig) -> PrepareReport:
    """Make a store, one task a case (or some small ones), as many at once as CPUs and RAM allow.

    Cases that are in the store already are not made again: a run that was cut short continues, and the same
    command again does nothing. A cluster is connected to only when there is a case to make.

    Raises:
        UserError: the source, the output, every case or (strict) one case cannot be used.
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
    """Fill in the defaults of source and output: a phantom under `runs/phantom`, made where it is missing.

    Raises:
        UserError: there is a source without an output.
    """
    home = output_root() / "runs" / "phantom"
    if source is None:
        return write_phantom(home / "scans"), output or home / "store"
    if output is None:
        raise UserError("--output", expected="the folder of the store", found="none", remedy="name it")
    return source, output


def _prepare(plan: PreparePlan) -> tuple[Manifest, list[str]]:
    """Make the missing cases; returns the store's manifest and the ids of the cases made."""
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
    """Make cases; yields their ids as they are done, each with the reason where it cannot be used."""
    import ray.data

    logging.getLogger("ray.data").setLevel(
        logging.CRITICAL
    )  # its import sets one; we report its errors below
    memory = max(plan.surveys[case.id].memory for case in cases)
    _check_memory(plan, memory)
    items = [{"case": to_dict(case), "path": str(plan.path(case).absolute())} for case in cases]
    total = sum(plan.surveys[case.id].voxel_bytes for case in cases)
    rows = ray.data.from_items(items, override_num_blocks=_tasks(len(items), total))
    rows.context.enable_progress_bars = False
    # Every task gets the plan without its lists, which grow with the number of cases.
    shared = replace(plan, source=replace(plan.source, cases=()), surveys={}, excluded={}, splits=None)
    with warnings.catch_warnings(action="ignore"):  # there is no other way yet to limit how often it tries
        made = rows.map(_make_row, fn_args=(shared,), num_cpus=1, memory=memory, max_retries=_MAX_RETRIES)
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
            raise _lost(plan, list(left.values()), error) from error


def _tasks(cases: int, size: int) -> int:
    """How many tasks to make: one a case; fewer for small cases, which the start of a task would delay."""
    cpus = int(sum(node.get("CPU", 0) for node in nodes()))
    return min(cases, max(size // _MIN_TASK_BYTES, 2 * cpus, 1))


def _make_row(row: dict[str, Any], plan: PreparePlan) -> dict[str, Any]:
    """Make one case on any node: an error in writing ends the run, one in reading excludes the case."""
    case, path = from_dict(Case, row["case"]), Path(row["path"])
    done: dict[str, Any] = {"case": case.id, "problem": None, "fatal": None}
    try:
        stored = make_case(case, plan)
    except UserError as error:
        return done | {"problem": str(error)}
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        excluded = UserError(
            case.images[0], expected="a case that can be prepared", found=reason, remedy="look at its files"
        )
        return done | {"problem": str(excluded)}
    try:
        write_case(path, stored)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        return done | {
            "fatal": f"{path}: cannot be written ({reason}); free some space or name another --output"
        }
    return done


def _lost(plan: PreparePlan, left: list[Case], error: Exception) -> UserError:
    """The error for processes that were killed again and again; which case each had is no longer known."""
    largest = max(left, key=lambda case: plan.surveys[case.id].memory)
    memory = plan.surveys[largest.id].memory / 2**30
    others = f" or one of {len(left) - 1} others" if len(left) > 1 else ""
    return UserError(
        f"{largest.images[0]}: the process of this case{others} was lost {_MAX_RETRIES + 1} times "
        f"({type(error).__name__}), as happens when RAM runs out; {memory:.1f} GiB were reserved for it",
        remedy="free some RAM and give the same command again, which continues where this stopped",
    )


def _check_memory(plan: PreparePlan, memory: int) -> None:
    largest = max(node.get("memory", 0) for node in nodes())
    if memory > largest:
        needed, there = (f"{size / 2**30:.1f} GiB" for size in (memory, largest))
        raise UserError(
            plan.source.root,
            expected=f"a node with {needed} of free RAM for the largest case",
            found=there,
            remedy="use a larger machine or remove the case",
        )
