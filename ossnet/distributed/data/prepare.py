"""Ray Data: a store prepared in parallel, one task a case."""

import logging
import os
import pickle
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ossnet.data.phantom import write_phantom
from ossnet.data.prepare.build import PrepareReport, finalize, make_case, open_store_for_writing, remove_stale
from ossnet.data.prepare.config import PrepareConfig
from ossnet.data.prepare.plan import CaseRecipe, PreparePlan, check_excluded, load_if_current, make_plan
from ossnet.data.prepare.survey import CaseInfo
from ossnet.data.store.case_file import StoredCase, write_case
from ossnet.data.store.store import CASES, Manifest
from ossnet.distributed.cluster.connection import connect, output_root
from ossnet.distributed.cluster.nodes import nodes
from ossnet.distributed.data.job_files import JobFiles, copied, of_the_job
from ossnet.errors import UserError
from ossnet.output.claim import claimed_output, job_folder
from ossnet.output.file_stamp import FileStamp, stamps_of
from ossnet.output.progress import Progress, progress
from ossnet.output.remote.copies import fetch_file, fetch_input, keep_all, location_of, written

_MAX_RETRIES = 3  # how often a task starts again when its process is gone; Ray Data would do so for ever
_MIN_TASK_BYTES = 8 << 20  # bytes of voxels that are worth a task's start of about 50 ms


def prepare(config: PrepareConfig) -> PrepareReport:
    """Make a store, one task a case (or some small ones), as many at once as CPUs and RAM allow.

    Cases that are in the store already are not made again: a run that was cut short continues, and the same
    command again does nothing. A cluster is connected to only when there is a case to make.

    Raises:
        UserError: the source, the output, every case or (strict) one case cannot be used.
    """
    if config.source is not None:  # workers have other working directories
        config = replace(config, source=fetch_input(config.source).absolute())
    if config.splits is not None:
        config = replace(config, splits=fetch_input(config.splits))
    if config.output is None:
        raise UserError("--output", expected="the folder of the store", found="none", remedy="name it")
    config = replace(config, output=job_folder(config.output, "prepare"))
    assert config.output is not None
    sources = [path for path in (config.source, config.splits) if path is not None]
    with claimed_output(config.output, "prepare", sources=sources):
        return _prepare(config)


def _prepare(config: PrepareConfig) -> PrepareReport:
    start = time.monotonic()
    with progress("reading the headers of the scans"):
        plan = make_plan(config)
    manifest, made = load_if_current(plan), list[str]()
    if manifest is None:
        manifest, made = _make_missing(plan)
    else:
        remove_stale(plan.output, manifest)
    check_excluded(plan, manifest.excluded)
    keep_all(plan.output, plan.output / CASES)
    return PrepareReport(
        output=plan.output,
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
        raise UserError("--output", expected="the folder of the store", found="none", remedy="name it")
    return source, output


def _make_missing(plan: PreparePlan) -> tuple[Manifest, list[str]]:
    """The store's manifest and the cases made for it."""
    excluded, made = dict(plan.excluded), list[str]()
    with open_store_for_writing(plan):
        missing = plan.missing
        if missing:
            size = sum(info.voxel_bytes for info in missing)
            with connect(), progress("preparing", total=len(missing), size=size) as shown:
                for case, error in _make_all(plan, missing, size, shown):
                    if error:
                        excluded[case] = error
                        check_excluded(plan, excluded)
                    else:
                        made.append(case)
        return finalize(plan, excluded), made


def _make_all(
    plan: PreparePlan, cases: list[CaseInfo], size: int, shown: Progress
) -> Iterator[tuple[str, str | None]]:
    """Case ids as they are done, each with the reason where it cannot be used.

    Args:
        size: bytes of their voxels.
    """
    import ray.data

    # Its import sets a level; what it reports is reported below.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    memory = max(info.memory for info in cases)
    _check_memory(plan, memory)
    files = JobFiles.here()
    # As bytes, so that one case's fields do not shape another's; with its headers, which are not read again.
    items = [
        {
            "case": pickle.dumps(info),
            "files": pickle.dumps(stamps_of(info.files)),
            "path": os.fsencode(plan.path(info).absolute()),
            "location": os.fsencode(location_of(plan.path(info).absolute())),
        }
        for info in cases
    ]
    rows = ray.data.from_items(items, override_num_blocks=_tasks(len(items), size))
    rows.context.enable_progress_bars = False
    with warnings.catch_warnings(action="ignore"):  # there is no other way yet to limit how often it tries
        made = rows.map(
            _make_row, fn_args=(plan.recipe, files), num_cpus=1, memory=memory, max_retries=_MAX_RETRIES
        )
    left = {info.id: info for info in cases}
    try:
        for row in made.iter_rows():
            info = left.pop(row["case"])
            shown(info.voxel_bytes)
            fetch_file(plan.path(info))
            if row["fatal"]:
                raise pickle.loads(row["fatal"])
            yield row["case"], row["error"]
    except ray.exceptions.RayError as error:
        raise _lost(list(left.values()), error) from error


def _tasks(cases: int, size: int) -> int:
    """Group the cases into tasks: a task for each case, except for small cases, which a task's start would
    delay."""
    cpus = int(sum(node.get("CPU", 0) for node in nodes()))
    return min(cases, max(size // _MIN_TASK_BYTES, 2 * cpus, 1))


def _make_row(row: dict[str, Any], recipe: CaseRecipe, files: JobFiles) -> dict[str, Any]:
    """Make one case on whichever node; what cannot be written ends the run, what cannot be read the case."""
    info, path = pickle.loads(row["case"]), Path(os.fsdecode(row["path"]))
    done: dict[str, Any] = {"case": info.id, "error": None, "fatal": None}
    try:
        stored = _read_case(info, recipe, files, pickle.loads(row["files"]))
    except UserError as error:
        return done | {"error": str(error)}
    except Exception as error:
        failure = UserError(
            info.case.images[0],
            expected="a case that can be prepared",
            found=f"{type(error).__name__}: {error}".splitlines()[0],
            remedy="check its files",
        )
        return done | {"error": str(failure)}
    try:
        with written(path, os.fsdecode(row["location"])) as target:
            write_case(target, stored)
    except UserError as error:
        return done | {"fatal": pickle.dumps(error)}
    except OSError as error:
        fatal = UserError(
            path,
            expected="a file that can be written",
            found=os.strerror(error.errno) if error.errno else str(error),
            remedy="free some space or name another --output",
        )
        return done | {"fatal": pickle.dumps(fatal)}
    return done


def _read_case(
    info: CaseInfo, recipe: CaseRecipe, files: JobFiles, stamps: Sequence[FileStamp]
) -> StoredCase:
    """Make one case from files that this node may have to copy first."""
    with files.at_hand(stamps) as folder:
        try:
            return make_case(info.moved(lambda path: copied(path, folder)), recipe)
        except UserError as error:
            raise UserError(of_the_job(str(error), folder)) from error


def _lost(left: list[CaseInfo], error: Exception) -> UserError:
    """The error where processes were killed again and again; which case each had is not known any more."""
    largest = max(left, key=lambda info: info.memory)
    others = f" or one of {len(left) - 1} others" if len(left) > 1 else ""
    return UserError(
        largest.case.images[0],
        expected=f"its process{others} to need at most the {largest.memory / 2**30:.1f} GiB reserved for it",
        found=f"it was lost {_MAX_RETRIES + 1} times ({type(error).__name__}), as happens when RAM runs out",
        remedy="free some RAM and give the same command again, which continues where this stopped",
    )


def _check_memory(plan: PreparePlan, memory: int) -> None:
    largest = max(node.get("memory", 0) for node in nodes())
    if memory > largest:
        raise UserError(
            plan.source.root,
            expected=f"a node with {memory / 2**30:.1f} GiB of free RAM for the largest case",
            found=f"{largest / 2**30:.1f} GiB",
            remedy="use a larger machine or remove the case",
        )
