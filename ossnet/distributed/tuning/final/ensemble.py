"""The ensemble of a study: the best of its checkpoints together, chosen on the validation cases."""

import logging
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from optuna.trial import TrialState

from ossnet.data.store.cache import DataConfig
from ossnet.distributed.cluster.nodes import nodes
from ossnet.distributed.cluster.resources import plan_run
from ossnet.distributed.data.store_handle import StoreHandle
from ossnet.distributed.tuning.final.refit import REFIT, refit_checkpoint
from ossnet.distributed.tuning.result import StudyResult
from ossnet.distributed.tuning.storage import TuningStudy, best_checkpoint, is_feasible
from ossnet.errors import UserError
from ossnet.inference.ensemble import FILE, Ensemble, Member
from ossnet.output.duration import format_duration
from ossnet.output.remote.copies import fetch_input, location_of
from ossnet.planning.study_time import StudyTime
from ossnet.training.checkpoint import load_state
from ossnet.training.checkpoint_files import check_replaceable, replace_checkpoint

if TYPE_CHECKING:
    from ray.actor import ActorHandle

    from ossnet.distributed.tracking.client import Tracker
    from ossnet.distributed.tuning.study import StudySpec

logger = logging.getLogger(__name__)

FOLDER = "ensemble"
"""The folder of the members' checkpoints in that of a study."""
_CANDIDATES = 2  # for each network to choose
_OVERDUE_S = 10.0  # after which a choice is given up that should have ended by itself


def choose_ensemble(
    spec: "StudySpec",
    study: TuningStudy,
    tracker: "ActorHandle[Tracker]",
    result: StudyResult,
    limit: StudyTime | None,
) -> StudyResult:
    """Choose among the best checkpoints, and write `ensemble.json` and copies of the members to the study.

    Where nothing comes of it a line says why, and an earlier ensemble stays.

    Args:
        limit: what limits the study in time.
    """
    from ray.exceptions import GetTimeoutError, RayError

    assert spec.ensemble is not None
    checkpoints = _candidates(spec, study, _CANDIDATES * spec.ensemble)
    until = None if limit is None else limit.ensemble_until
    if until is not None and until < time.time():
        logger.info("no time is left to choose an ensemble")
        return result
    within = "" if until is None else f", within {format_duration(until - time.time())}"
    logger.info(f"an ensemble is chosen among {len(checkpoints)} checkpoints{within}")
    try:
        chosen = _select(spec, list(checkpoints.values()), until)
        if chosen is None:
            logger.warning("warning: no ensemble was chosen: the time did not suffice for one case")
            return result
        kept = _keep(chosen, {path: name for name, path in checkpoints.items()}, spec.output)
    except (UserError, RayError, GetTimeoutError) as error:  # what the search found does not depend on it
        logger.warning(f"warning: no ensemble was chosen: {str(error).strip().splitlines()[-1]}")
        return result
    validated = len(_cases(spec))
    if kept.cases < validated:
        logger.warning(
            f"warning: the time sufficed for {kept.cases} of {validated} cases to choose an ensemble on"
        )
    tracker.log_text.remote(study.parent_run_key, (spec.output / FILE).read_text(), FILE)
    return replace(result, ensemble=kept)


def _candidates(spec: "StudySpec", study: TuningStudy, most: int) -> dict[str, Path]:
    """The checkpoints of the highest validation Dice by the names of their trainings, the best first."""
    found = dict[str, Path]()
    for trial in study.started_trials():
        for seed in range(spec.optimization.seeds):
            run = study.run_id(trial.number, seed)
            checkpoint = best_checkpoint(spec.output, trial.number, seed, run)
            if checkpoint is not None and is_feasible(trial) and trial.state != TrialState.FAIL:
                found[f"{trial.number:03d}.{seed}"] = checkpoint
    again = refit_checkpoint(spec, study)
    if again is not None:
        found[f"{REFIT}-{again.parent.name}"] = again
    dice = {name: load_state(folder).get("dice") for name, folder in found.items()}
    ranked = sorted((-float(each), name) for name, each in dice.items() if each is not None)
    return {name: found[name] for _, name in ranked[:most]}


def _select(spec: "StudySpec", checkpoints: Sequence[Path], until: float | None) -> Ensemble | None:
    """Choose in a process of the cluster that has a GPU, or all CPUs, as the driver may have neither."""
    import ray

    resources, handle = plan_run(nodes(), 1), StoreHandle.of(spec.store, spec.base.data)
    task = ray.remote(_select_there).options(num_cpus=resources.cpus, num_gpus=resources.gpus)
    places = {Path(location_of(each)): each for each in checkpoints}  # where each lies for every node
    choice = task.remote(
        list(places),
        handle,
        spec.base.data,
        _cases(spec),
        size=spec.ensemble,
        until=until,
        at_most_s=spec.optimization.seconds_per_case,
        threads=resources.cpus,
    )
    try:
        timeout = None if until is None else until + _OVERDUE_S - time.time()
        chosen: Ensemble | None = ray.get(choice, timeout=timeout)
    except BaseException:
        ray.cancel(choice, force=True)
        raise
    return None if chosen is None else _renamed(chosen, places)


def _renamed(chosen: Ensemble, names: Mapping[Path, Path]) -> Ensemble:
    """The ensemble with other names of its checkpoints."""
    members = (replace(each, checkpoint=names[each.checkpoint]) for each in chosen.members)
    return replace(chosen, members=tuple(members))


def _cases(spec: "StudySpec") -> Sequence[str]:
    """The cases that the trials are validated on."""
    training = spec.base.training
    return spec.store.split("validation", fold=training.fold)[: training.validation_cases]


def _select_there(
    locations: Sequence[Path],
    handle: StoreHandle,
    data: DataConfig,
    cases: Sequence[str],
    *,
    size: int,
    until: float | None,
    at_most_s: float | None,
    threads: int,
) -> Ensemble | None:
    import torch

    from ossnet.evaluation.selection import select_ensemble

    torch.set_num_threads(threads)
    here = {fetch_input(each): each for each in locations}
    chosen = select_ensemble(
        list(here),
        handle.open(data),
        cases,
        size=size,
        until=math.inf if until is None else until,
        at_most_s=math.inf if at_most_s is None else at_most_s,
    )
    return None if chosen is None else _renamed(chosen, here)


def _keep(chosen: Ensemble, names: dict[Path, str], output: Path) -> Ensemble:
    """Copy the members, then write the file, then remove what only an earlier file names."""
    earlier = Ensemble.read(output).members if (output / FILE).is_file() else ()
    members = []
    for each in chosen.members:
        member = Member(Path(FOLDER, names[each.checkpoint]), each.weight)
        with replace_checkpoint(output / member.checkpoint) as folder:
            shutil.copytree(each.checkpoint, folder, dirs_exist_ok=True)
        members.append(member)
    kept = replace(chosen, members=tuple(members))
    kept.save(output)
    for old in {each.checkpoint for each in earlier} - {each.checkpoint for each in members}:
        if old.parent == Path(FOLDER) and (output / old).is_dir():
            check_replaceable(output / old)
            shutil.rmtree(output / old)
    return kept
