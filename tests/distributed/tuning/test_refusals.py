"""What the budget kept from starting, by network, with the budget that would let one start."""

from pathlib import Path

from optuna.trial import TrialState

from ossnet.distributed.tuning.config import OptimizationConfig
from ossnet.distributed.tuning.result import feasible_fraction, refusals_of
from ossnet.distributed.tuning.storage import END, NETWORK_NAME, TuningStudy
from ossnet.distributed.tuning.trial import TrialEnd
from ossnet.metric_names import PREDICTED
from ossnet.planning.refusals import Refusal


def test_refusals_are_counted_by_network(tmp_path: Path) -> None:
    study = TuningStudy.open_or_create(tmp_path / "study.db", "mine", OptimizationConfig(budget_gib=1.0))
    assert refusals_of(study) == ()
    for network, gib, end in [
        ("unet-3d", 2.5, TrialEnd.INFEASIBLE_PREDICTED),
        ("oss-net-c", 1.75, TrialEnd.INFEASIBLE_PREDICTED),
        ("unet-3d", 1.25, TrialEnd.INFEASIBLE_PREDICTED),
        ("unet-3d", 0.5, TrialEnd.STOPPED_EARLY),
    ]:
        trial = study.ask()
        for name, value in {NETWORK_NAME: network, PREDICTED: gib, END: end}.items():
            trial.set_user_attr(name, value)
        study.tell(trial, state=TrialState.PRUNED)
    assert refusals_of(study) == (Refusal("unet-3d", 2, 1.25), Refusal("oss-net-c", 1, 1.75))
    assert (
        "Too large by prediction were 2 of unet-3d (the smallest takes 1.25 GiB: it needs "
        "--memory-budget 1.25GiB), 1 of oss-net-c (the smallest takes 1.75 GiB: it needs "
        "--memory-budget 1.75GiB)." in feasible_fraction(study)
    )
