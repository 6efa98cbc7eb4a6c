"""Simulated studies next to real ones of the same trials."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ossnet.distributed.benchmark.simulation.cluster import Cluster
from ossnet.distributed.benchmark.simulation.simulator import simulate
from ossnet.distributed.benchmark.simulation.trials import MeasuredTrial
from ossnet.distributed.tuning.config import EarlyStoppingConfig
from ossnet.distributed.tuning.trial import TrialEnd
from ossnet.errors import UserError
from ossnet.metric_names import ELAPSED

if TYPE_CHECKING:
    from ossnet.distributed.reports.study_view import StudyView


@dataclass(frozen=True)
class ComparedStudy:
    """A real study, and what a simulation of it says."""

    study: str
    at_once: int
    """Trials that ran side by side, at most."""
    algorithm: str
    """Of early stopping."""
    trials: int
    pace: float
    """How many times as long its trainings took as the same epochs of the measured trials, by what else the
    machine did and by how trials at once slow each other down. The simulation is given it."""
    measured_wall_s: float
    """From the first start to the last end."""
    simulated_wall_s: float
    measured_stopped: tuple[int, ...]
    """Numbers of the trials that were stopped early."""
    simulated_stopped: tuple[int, ...]

    @property
    def error(self) -> float:
        """By which part the simulated time is off."""
        return self.simulated_wall_s / self.measured_wall_s - 1


def compare(trials: Mapping[int, MeasuredTrial], study: "StudyView") -> ComparedStudy:
    """Simulate a real study of these trials on a node with as many CPUs as it had trials at once.

    Raises:
        UserError: it has others.
    """
    real = study.trials
    if not set(real.index) <= set(trials) or real["ended"].isna().any():
        raise UserError(
            study.folder,
            expected=f"some of the {len(trials)} measured trials, all of them ended",
            found=f"{len(real)} trials, {int(real['ended'].notna().sum())} of them ended",
            remedy="give a study of the same space, whose POINTS_TO_EVALUATE are its trials",
        )
    at_once = _most_at_once(study)
    numbers = sorted(real.index)
    pace = _pace({number: trials[number] for number in numbers}, study)
    ordered = [trials[number] for number in numbers]
    if at_once == 1:
        ordered = [replace(each, seconds=each.seconds * pace) for each in ordered]
    rule = {
        name: study.settings[f"early_stopping.{name}"]
        for name in ("algorithm", "grace_period", "reduction_factor", "brackets")
    }
    cluster = Cluster([{"CPU": at_once}], busy=1.0 if at_once == 1 else pace / at_once)
    simulated = simulate(ordered, cluster, EarlyStoppingConfig(**rule))
    return ComparedStudy(
        study=study.folder.name,
        at_once=at_once,
        algorithm=rule["algorithm"],
        trials=len(ordered),
        pace=pace,
        measured_wall_s=(real["ended"].max() - real["began"].min()).total_seconds(),
        simulated_wall_s=simulated.wall_s,
        measured_stopped=tuple(real.index[real["end"] == TrialEnd.STOPPED_EARLY].tolist()),
        simulated_stopped=tuple(numbers[place] for place in sorted(simulated.stopped)),
    )


def _most_at_once(study: "StudyView") -> int:
    began, ended = study.trials["began"], study.trials["ended"]
    return max(int(((began <= moment) & (moment < ended)).sum()) for moment in began)


def _pace(trials: Mapping[int, MeasuredTrial], study: "StudyView") -> float:
    """The seconds of its trainings, over those of the same epochs of the same trials before."""
    before = 0.0
    for number, trial in trials.items():
        before += trial.seconds * int(study.curves[number].last_valid_index()) / trial.curve[-1][0]
    return float(study.trials[ELAPSED].sum()) / before
