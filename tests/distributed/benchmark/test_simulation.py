"""Simulated studies: what is conserved, what is exact, and what a real study of the same trials would do."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import FrozenTrial, TrialState

from ossnet.commands.bench import main
from ossnet.distributed.benchmark.simulation.cluster import Cluster
from ossnet.distributed.benchmark.simulation.config import SimulationConfig
from ossnet.distributed.benchmark.simulation.measure import measure_simulation
from ossnet.distributed.benchmark.simulation.results import SimulationResult, draw, show
from ossnet.distributed.benchmark.simulation.simulator import simulate
from ossnet.distributed.benchmark.simulation.trials import MeasuredTrial, resampled, scaled
from ossnet.distributed.tuning.config import EarlyStoppingConfig, OptimizationConfig
from ossnet.distributed.tuning.storage import DATABASE, END, METRICS, SETTINGS, TuningStudy
from ossnet.distributed.tuning.study import MOST_LOSSES
from ossnet.distributed.tuning.trial import TrialEnd
from ossnet.errors import UserError
from ossnet.metric_names import COST, ELAPSED, PREDICTED

NONE, ASHA = EarlyStoppingConfig(algorithm="none"), EarlyStoppingConfig()
NODE = {"CPU": 8.0, "GPU": 1.0}

a_trial = st.builds(
    lambda seconds, start_s, peak_gib, dice: MeasuredTrial(
        seconds, start_s, peak_gib, tuple((2 * place + 2, each) for place, each in enumerate(dice))
    ),
    st.floats(1, 5000),
    st.floats(0, 30),
    st.floats(0.05, 20),
    st.lists(st.floats(0, 1), min_size=5, max_size=5),
)
some_trials = st.lists(a_trial, min_size=1, max_size=12)
few_gpus = st.integers(1, 5)
examples = settings(max_examples=60, deadline=None)


def trial(seconds: float, *dice: float, start_s: float = 0.0, peak_gib: float = 1.0) -> MeasuredTrial:
    return MeasuredTrial(seconds, start_s, peak_gib, tuple(enumerate(dice or (0.5,), 1)))


def shared(gpus: int, busy: float = 0.5, **options: Any) -> Cluster:
    return Cluster([NODE] * gpus, gpu_gib=24.0, busy=busy, **options)


def whole(gpus: int, **options: Any) -> Cluster:
    return Cluster([NODE] * gpus, **options)


def held_s(trials: Sequence[MeasuredTrial]) -> float:
    return sum(each.start_s + each.seconds for each in trials)


@examples
@given(some_trials, few_gpus, st.floats(0.05, 1), st.sampled_from([0.0, 2.0]))
def test_trials_never_need_more_memory_than_a_gpu_has(
    trials: list[MeasuredTrial], gpus: int, busy: float, rate: float
) -> None:
    study = simulate(trials, shared(gpus, busy, losses_per_hour=rate), ASHA)
    assert 0 < study.most_gib <= 24.0
    assert study.most_at_once <= NODE["CPU"]


@examples
@given(some_trials, few_gpus, st.floats(0.05, 1))
def test_without_losses_all_is_trained_once(trials: list[MeasuredTrial], gpus: int, busy: float) -> None:
    trained = sum(each.seconds for each in trials)
    alone, together = simulate(trials, whole(gpus), NONE), simulate(trials, shared(gpus, busy), NONE)
    assert [alone.trained_s, together.trained_s] == pytest.approx([trained, trained])
    assert (alone.repeated_s, alone.losses, alone.stopped, alone.failed) == (0.0, 0, [], [])
    assert alone.occupied_s == pytest.approx(held_s(trials))
    assert together.occupied_s <= alone.occupied_s + 1e-3
    assert alone.most_at_once == 1


@examples
@given(some_trials)
def test_one_gpu_takes_the_sum_of_all_trials(trials: list[MeasuredTrial]) -> None:
    assert simulate(trials, whole(1), NONE).wall_s == pytest.approx(held_s(trials))
    always_busy = simulate(trials, shared(1, busy=1.0), NONE)
    assert always_busy.wall_s == pytest.approx(held_s(trials))


@examples
@given(some_trials, few_gpus, few_gpus)
def test_more_gpus_delay_by_a_trial_at_most(trials: list[MeasuredTrial], gpus: int, more: int) -> None:
    few, many = (simulate(trials, whole(count), NONE).wall_s for count in (gpus, gpus + more))
    assert many <= few + max(each.start_s + each.seconds for each in trials) + 1e-3


@examples
@given(some_trials, st.integers(0, 1000), st.sampled_from([5.0, 60.0]))
def test_a_loss_costs_what_came_after_the_last_checkpoint(
    trials: list[MeasuredTrial], seed: int, checkpoint_s: float
) -> None:
    trials = [replace(each, start_s=0.0) for each in trials]
    cluster = whole(1, losses_per_hour=1.0, replacement_s=300.0, checkpoint_s=checkpoint_s)
    study = simulate(trials, cluster, NONE, seed=seed)
    assert study == simulate(trials, cluster, NONE, seed=seed)
    assert study.repeated_s <= study.losses * checkpoint_s
    assert study.occupied_s == pytest.approx(study.trained_s + study.repeated_s)
    waited_s = study.wall_s - study.occupied_s
    last_failed = len(trials) - 1 in study.failed  # nothing waits for the replacement after it
    assert waited_s == pytest.approx(300.0 * (study.losses - last_failed), abs=1e-3)
    assert study.losses >= (MOST_LOSSES + 1) * len(study.failed)


def test_trials_that_share_a_busy_gpu_slow_each_other_down() -> None:
    study = simulate([trial(100), trial(200)], shared(1, busy=0.75), NONE)
    assert study.wall_s == pytest.approx(150 + 100)  # 1.5 times as long, until the first has ended
    assert simulate([trial(100), trial(200)], shared(1, busy=0.5), NONE).wall_s == pytest.approx(200)
    assert simulate([trial(100), trial(200)], whole(1), NONE).wall_s == pytest.approx(300)


def test_trials_spread_over_nodes_before_they_share_one() -> None:
    study = simulate([trial(100)] * 3, shared(2, busy=1.0), NONE)
    assert [study.most_at_once, study.wall_s] == pytest.approx([2, 200])


def test_large_trials_wait_for_room() -> None:
    large = trial(100, peak_gib=12.0)
    study = simulate([large, trial(30), large], shared(1, busy=0.1), NONE)
    assert study.wall_s == pytest.approx(200)
    with pytest.raises(UserError, match="room"):
        simulate([large], Cluster([NODE], gpu_gib=0.5), NONE)


def test_trials_that_fall_behind_are_stopped_as_in_a_study() -> None:
    good, bad = trial(80, 0.5, 0.6, 0.7, 0.8), trial(40, 0.1, 0.2, 0.3, 0.9)
    study = simulate([good, bad, good], whole(1), ASHA)
    assert study.stopped == [1]
    assert study.trained_s == pytest.approx(80 + 10 + 80)
    assert simulate([bad, good], whole(1), ASHA).stopped == []  # nothing came to the rung before the first
    assert simulate([good, bad], whole(2), ASHA).stopped == []  # the second came there first


def test_a_lost_trial_holds_a_whole_gpu() -> None:
    trials = [trial(4000)] * 16
    kept = simulate(trials, shared(2, busy=0.1), NONE)
    lost = simulate(trials, shared(2, busy=0.1, losses_per_hour=0.5), NONE, seed=1)
    assert lost.losses > 0
    assert kept.occupied_s == pytest.approx(8000)
    assert lost.occupied_s > 1.3 * kept.occupied_s


def test_drawn_trials_are_the_same_for_a_seed_and_scaled_to_a_mean() -> None:
    pool = scaled({0: trial(10, 0.5), 3: trial(30, 0.5)}, hours=1.0, gib=4.0)
    assert [each.seconds for each in pool] == pytest.approx([1800, 5400])
    assert [each.peak_gib for each in pool] == pytest.approx([4.0, 4.0])
    drawn = resampled(pool, 50, seed=3)
    assert drawn == resampled(pool, 50, seed=3) != resampled(pool, 50, seed=4)
    assert {each.seconds for each in drawn} == {each.seconds for each in pool}
    assert len({each.curve[0][1] for each in drawn}) == 50
    assert {each.curve[0][1] for each in resampled([trial(1, 0.0)], 5, seed=0)} == {0.0}


START = datetime(2026, 11, 30, 12)  # noqa: DTZ001 - as Optuna has it


def write_study(
    folder: Path, runs: Sequence[tuple[float, float, float, dict[int, float]]], algorithm: str = "none"
) -> Path:
    """A study of trials that began and ended at these seconds and trained for so many, with these curves."""
    study = TuningStudy.open_or_create(_made(folder) / DATABASE, folder.name, OptimizationConfig())
    rule = {"algorithm": algorithm, "grace_period": None, "reduction_factor": 2, "brackets": 3}
    study.set_user_attr(SETTINGS, {f"early_stopping.{name}": value for name, value in rule.items()})
    for number, (began, ended, trained, curve) in enumerate(runs):
        whole_curve = max(curve) == 4
        end = TrialEnd.FINISHED if whole_curve else TrialEnd.STOPPED_EARLY
        metrics = {ELAPSED: trained, COST: trained, PREDICTED: 0.5 + number}
        study.add_trial(
            FrozenTrial(
                number=number,
                state=TrialState.COMPLETE if whole_curve else TrialState.PRUNED,
                value=max(curve.values()) if whole_curve else None,
                datetime_start=START + timedelta(seconds=began),
                datetime_complete=START + timedelta(seconds=ended),
                params={},
                distributions={},
                user_attrs={METRICS: metrics, END: end},
                system_attrs={},
                intermediate_values=curve,
                trial_id=number,
            )
        )
    return folder


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


GOOD, BAD = {1: 0.5, 2: 0.6, 4: 0.7}, {1: 0.2, 2: 0.3, 4: 0.4}
ONE_AT_ONCE = [(0, 42, 40, GOOD), (42, 64, 20, BAD), (64, 126, 60, GOOD)]


def test_real_studies_of_the_same_trials_are_simulated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = write_study(tmp_path / "one", ONE_AT_ONCE)
    stopped = [(0, 42, 40, GOOD), (42, 49, 5, {1: 0.2}), (49, 111, 60, GOOD)]
    asha = write_study(tmp_path / "asha", stopped, "asha")
    two = write_study(tmp_path / "two", [(0, 84, 80, GOOD), (0, 44, 40, BAD), (44, 168, 120, GOOD)])
    options = SimulationConfig(gpus=(1, 4), trials=20, busy=(0.5,), losses=(0.0, 0.2), trial_hours=1.0)
    result = measure_simulation(
        options, study, checks=(study, asha, two), command="ossnet bench simulate", progress=print
    )
    same, early, pair = result.compared
    assert (same.at_once, early.at_once, pair.at_once) == (1, 1, 2)
    assert [same.pace, pair.pace] == pytest.approx([1, 2])
    assert [same.error, early.error] == pytest.approx([0, 0])
    assert early.measured_stopped == early.simulated_stopped == (1,)
    assert pair.simulated_wall_s == pytest.approx(42 + 22 + 62)  # two take twice as long, the last one not
    assert [result.measured.mean_s, result.measured.start_s] == pytest.approx([40, 2])

    assert len(result.rows) == 2 * 2 * 2 * 2
    result.write(tmp_path / "simulation.json")
    assert SimulationResult.read(tmp_path / "simulation.json") == result
    assert draw(result).startswith(b"\x89PNG")
    show(result)
    assert "GPUs shared (a trial keeps one 50% busy)" in capsys.readouterr().out


def test_what_cannot_be_simulated_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--study: expected the folder of a study"):
        main(["simulate", "--output", str(tmp_path / "bench")])
    stopped = write_study(tmp_path / "stopped", [(0, 49, 5, {1: 0.2})], "asha")
    with pytest.raises(UserError, match=r"one that was stopped early.*algorithm none"):
        main(["simulate", "--study", str(stopped), "--output", str(tmp_path / "bench")])
    one = write_study(tmp_path / "one", ONE_AT_ONCE)
    other = write_study(tmp_path / "other", [*ONE_AT_ONCE, (126, 136, 9, GOOD)])
    with pytest.raises(UserError, match=r"some of the 3 measured trials, .* found 4 trials"):
        main(["simulate", "--study", str(one), "--check", str(other), "--output", str(tmp_path / "bench")])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gpus": ()}, "gpus: expected at least 1"),
        ({"trials": 0}, "trials: expected at least 1"),
        ({"busy": (0.5, 1.5)}, "busy: expected shares above 0, up to 1, found 0.5 1.5"),
        ({"losses": (-1.0,)}, "losses: expected 0 or more an hour"),
        ({"trial_hours": 0.0}, "trial-hours: expected a positive number"),
    ],
)
def test_settings_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SimulationConfig(**options)


def test_the_recorded_simulation_kept_to_the_memory_of_its_gpus() -> None:
    recorded = Path(__file__).parents[3] / "docs" / "benchmarks" / "simulation.json"
    result = SimulationResult.read(recorded)
    assert max(row.gpus for row in result.rows) == 1000
    assert max(row.most_gib for row in result.rows) <= result.settings.gpu_gib
