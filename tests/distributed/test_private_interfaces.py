"""Private interfaces of Ray and Optuna: a test fails where a library changes what this package relies on."""

import inspect
import time
from errno import ENOSPC
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import ray
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from ray import tune
from ray.train.v2._internal.execution.controller import TrainController as TrainControllerOfRay
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial

from ossnet.distributed import _optuna, _ray
from ossnet.errors import UserError


@pytest.fixture
def study() -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(directions=["maximize", "minimize"])


def test_optuna_reopens_a_running_trial(study: optuna.Study) -> None:
    before = study.ask()
    (stored,) = study.get_trials(states=(TrialState.RUNNING,))
    trial = _optuna.reopen_trial(study, stored)
    assert trial.number == before.number
    study.tell(trial, [1.0, 2.0])
    assert study.trials[0].values == [1.0, 2.0]


def test_optuna_stores_intermediate_values_of_several_objectives(study: optuna.Study) -> None:
    trial = study.ask()
    _optuna.set_intermediate_value(trial, 3, 0.5)
    assert study.trials[0].intermediate_values == {3: 0.5}


@pytest.mark.parametrize(
    ("distribution", "inside", "outside"),
    [
        (FloatDistribution(0.0, 1.0), 0.5, 1.5),
        (FloatDistribution(1e-4, 1.0, log=True), 1e-3, 1e-5),
        (IntDistribution(2, 8, step=2), 4, 10),
        (CategoricalDistribution(["a", "b"]), "b", "c"),
    ],
)
def test_optuna_checks_what_a_distribution_contains(distribution: Any, inside: Any, outside: Any) -> None:
    assert _optuna.contains(distribution, inside)
    assert not _optuna.contains(distribution, outside)


def test_optuna_reads_a_created_trials_constraint(study: optuna.Study) -> None:
    attributes = _optuna.constraint_attributes({"memory": 0.25, "seconds": -1.0})
    study.add_trial(create_trial(values=[1.0, 2.0], system_attrs=dict(attributes)))
    assert study.trials[0].constraints == {"memory": 0.25, "seconds": -1.0}


def test_optuna_marks_enqueued_trials(study: optuna.Study) -> None:
    study.enqueue_trial({"x": 0.5})
    study.ask().suggest_float("x", 0, 1)
    study.ask().suggest_float("x", 0, 1)
    marked: list[FrozenTrial] = [each for each in study.trials if _optuna.FIXED_PARAMS in each.system_attrs]
    assert [trial.number for trial in marked] == [0]


def test_ray_tunes_controller_keeps_its_actors_where_they_are_looked_for() -> None:
    source = inspect.getsource(TuneController.__init__)
    assert "self._actor_manager =" in source
    assert "self._actor_to_trial" in source
    from ray.air.execution._internal import RayActorManager
    from ray.air.execution._internal.tracked_actor_task import TrackedActorTask

    parameters = list(inspect.signature(RayActorManager._actor_task_failed).parameters)
    assert parameters == ["self", "tracked_actor_task", "exception"]
    calls = inspect.getsource(RayActorManager)
    assert "self._actor_task_failed(" in calls  # looked up at each call, so that it can be replaced
    assert "_tracked_actor" in inspect.getsource(TrackedActorTask.__init__)


def test_ray_tunes_trial_keeps_its_last_result_where_it_is_looked_for() -> None:
    trial = Trial("trainable", stub=True)
    assert dict(_ray.last_result(trial)) == {}
    trial.run_metadata.last_result = {"epoch": 1}
    assert _ray.last_result(trial) == {"epoch": 1}
    trial._default_result_or_future = object()
    _ray.forget_pending_result(trial)
    assert trial._default_result_or_future is None
    assert "_default_result_or_future" in inspect.getsource(Trial.last_result.fget)


def test_ray_tune_forwards_the_variables_that_a_set_names(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.tune.execution import class_cache

    def forwarded() -> set[str]:
        actor = class_cache._ActorClassCache().get(type("Trainable", (), {}))
        return set(actor._default_options["runtime_env"]["env_vars"])

    names = {
        *class_cache.ENV_VARS_TO_PROPAGATE,
        "AWS_SECRET_ACCESS_KEY",
    }  # an earlier study may have taken it out
    monkeypatch.setattr(class_cache, "ENV_VARS_TO_PROPAGATE", names)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("RAY_TRAIN_V2_ENABLED", "1")
    assert "AWS_SECRET_ACCESS_KEY" in forwarded()
    _ray.forward_no_credentials()
    assert "AWS_SECRET_ACCESS_KEY" not in forwarded()
    assert "RAY_TRAIN_V2_ENABLED" in forwarded()


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("error", [UserError("study.db", found="full"), OSError(ENOSPC, "No space left")])
def test_what_a_callback_raises_leaves_ray_tune_as_it_was(tmp_path: Path, error: Exception) -> None:
    cause = ValueError("below it")

    class Broken(tune.Callback):
        def on_trial_result(self, *args: Any, **info: Any) -> None:
            raise error from cause

    def trainable(config: dict[str, Any]) -> None:
        tune.report({"dice": 0.5})

    run = tune.RunConfig(storage_path=str(tmp_path), callbacks=[Broken()], verbose=0)
    with pytest.raises(type(error)) as raised, _ray.raised_as_they_were():
        tune.Tuner(trainable, run_config=run).fit()
    assert raised.value is error
    assert raised.value.__cause__ is cause


def test_an_error_of_ray_tune_itself_stays() -> None:
    with pytest.raises(tune.TuneError, match="no trial"), _ray.raised_as_they_were():
        raise tune.TuneError("no trial")


def test_failures_of_tasks_are_replaced_before_ray_tune_handles_them() -> None:
    handled: list[Exception] = []
    manager = SimpleNamespace(_actor_task_failed=lambda task, exception: handled.append(exception))
    controller: Any = SimpleNamespace(_actor_manager=manager, _actor_to_trial={"actor": "trial"})
    seen = []

    def replace(trial: Any, error: Exception) -> Exception:
        seen.append(trial)
        return ValueError(str(error))

    _ray.intercept_task_failures(controller, replace)
    task = SimpleNamespace(_tracked_actor="actor")
    manager._actor_task_failed(tracked_actor_task=task, exception=RuntimeError("lost"))
    assert seen == ["trial"]
    assert [type(error) for error in handled] == [ValueError]


@pytest.mark.usefixtures("cluster")
def test_ray_lists_placement_groups_with_their_creators() -> None:
    import ray
    from ray.util.placement_group import placement_group

    group = placement_group([{"CPU": 1}])
    ray.get(group.ready())
    records = {record.id: record for record in _ray.placement_groups()}
    record = records[group.id.binary()]
    assert record.job == ray.get_runtime_context().get_job_id()
    assert (record.made_by_actor, record.removed) == (False, False)
    _ray.remove_group(record)
    removed = {each.id: each for each in _ray.placement_groups()}[record.id]
    assert removed.removed


@pytest.mark.usefixtures("cluster")
def test_ray_lists_nodes_that_are_to_go_with_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private.state import state

    assert state.get_draining_nodes() == {}
    monkeypatch.setattr(state, "get_draining_nodes", lambda: {"spot": 1_500, "idle": 0})
    assert _ray.draining_nodes() == {"spot": 1.5}


@pytest.mark.usefixtures("cluster")
def test_ray_keeps_the_processes_of_a_local_cluster_where_they_are_looked_for() -> None:
    from ray._private.worker import _global_node

    assert {"raylet", "gcs_server"} <= _global_node.all_processes.keys()
    assert _ray.ended_processes() == {}


@pytest.mark.usefixtures("cluster")
def test_ray_names_the_class_of_an_actor_and_ends_it_by_its_id() -> None:
    @ray.remote(num_cpus=0)
    class TrainController:
        __qualname__ = TrainControllerOfRay.__qualname__

        def id(self) -> str:
            return ray.get_runtime_context().get_actor_id()

    job = ray.get_runtime_context().get_job_id()
    before = _ray.train_controllers(job)
    controller = TrainController.remote()
    actor = ray.get(controller.id.remote())
    assert _ray.train_controllers(job) - before == {actor}
    _ray.kill_actor(actor)

    def ask() -> None:
        for _ in range(100):  # it ends a moment later
            ray.get(controller.id.remote(), timeout=30)
            time.sleep(0.1)

    with pytest.raises(ray.exceptions.RayActorError):
        ask()


def test_ray_serves_replicas_open_their_port_after_our_code_by_a_function_that_can_be_replaced() -> None:
    from ray.serve._private import replica

    opens = inspect.getsource(replica.Replica._on_initialized)
    assert 'add_port_to_grpc_server(self._server, "[::]:0")' in opens
    initialize = inspect.getsource(replica.Replica.initialize)
    assert initialize.index("initialize_callable()") < initialize.index("_on_initialized()")
    others = inspect.getsource(replica).replace(opens, "")
    assert "[::]" not in others
    assert "0.0.0.0" not in others
