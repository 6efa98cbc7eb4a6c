"""A phantom study, made on the spot, and how a part reports what it could not do."""

import json
import os
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import copyfile

from ossnet.benchmarks.config import Shape
from ossnet.benchmarks.gpu.results import Problem
from ossnet.data import PrepareConfig, Store, write_phantom
from ossnet.data.prepare.build import finalize, make_case
from ossnet.data.prepare.plan import make_plan
from ossnet.data.prepare.survey import CaseInfo
from ossnet.data.store.case_file import write_case

_DIFFERENT = 2  # phantoms to make; making one of BraTS' size takes ten seconds and more


def make_study(folder: str, shape: Shape, cases: int) -> Store:
    """A store of cases of four channels, all for training; every second one has equal voxels."""
    root = Path(folder)
    scans = write_phantom(root / "scans", _DIFFERENT, shape)
    _repeat_cases(scans, cases)
    plan = make_plan(PrepareConfig(scans, root / "store", validation_fraction=0))

    def make(info: CaseInfo) -> None:
        plan.path(info).parent.mkdir(parents=True, exist_ok=True)
        write_case(plan.path(info), make_case(info, plan.recipe))

    with ThreadPoolExecutor(min(len(os.sched_getaffinity(0)), 8)) as threads:
        list(threads.map(make, plan.cases))
    finalize(plan, {})
    return Store.open(plan.output)


def _repeat_cases(scans: Path, cases: int) -> None:
    """Copy the phantoms under further names, until there are so many."""
    description = scans / "dataset.json"
    content = json.loads(description.read_text())
    for index in range(len(content["training"]), cases):
        copied = {
            kind: path.replace("phantom_", f"phantom_{index}_")
            for kind, path in content["training"][index % _DIFFERENT].items()
        }
        for kind, path in copied.items():
            copyfile(scans / content["training"][index % _DIFFERENT][kind], scans / path)
        content["training"].append(copied)
    content["numTraining"] = len(content["training"])
    description.write_text(json.dumps(content))


def problem(part: str, where: str) -> Problem:
    """The exception that is being handled, as a problem; out of memory too, as the next may be smaller."""
    assert sys.exc_info()[0] is not None
    return Problem(part, where, traceback.format_exc())
