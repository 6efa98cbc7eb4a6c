"""Trials that share GPUs, as Ray places them: fake GPUs on a cluster of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tuning_study import make_spec

from ossnet.config import Config
from ossnet.data import Store
from ossnet.distributed.cluster.resources import GpuSharing, TrialPlacement, WorkerResources
from ossnet.distributed.tuning.monitor import TrialMonitor
from ossnet.distributed.tuning.searcher import StudySearch
from ossnet.distributed.tuning.storage import TuningStudy, end_of
from ossnet.distributed.tuning.trial import TrialEnd
from ossnet.memory.peak import GIB
from ossnet.planning import predict
from ossnet.planning.estimator import PeakEstimator
from ossnet.planning.margin import MARGIN

PLACED = """
import json, os, sys, time
from functools import partial
from pathlib import Path
import ray
from ray import tune
from ossnet.distributed.cluster.connection import connect
from ossnet.distributed.tuning.callbacks import FullGpuOnRetry
from ossnet.distributed.cluster.nodes import min_gpu_memory_gib, nodes
from ossnet.distributed.cluster.resources import plan_trials
from ossnet.distributed.tuning.study import resources_for
from ossnet.distributed.tuning.trainable import TrialResources
from ossnet.distributed.tuning.trial import TrialSpec

folder = Path(sys.argv[1])

def trial(config):
    held = TrialResources()
    if config["number"] == 4 and held.shares:
        raise MemoryError("its part of the GPU does not suffice")
    (folder / str(config["number"])).touch()
    patience = time.monotonic() + 120
    while config["number"] < 4 and len(list(folder.iterdir())) < 4:  # all four, side by side
        assert time.monotonic() < patience
        time.sleep(0.1)
    report = {"number": config["number"], "cpus": held.cpus, "gpus": held.gpus}
    tune.report(report | {"device": os.environ["CUDA_VISIBLE_DEVICES"]})

ray.init(address="local", num_cpus=4, num_gpus=2, include_dashboard=False)
with connect():
    unknown = min_gpu_memory_gib()  # fake GPUs have no memory to query
    plan = plan_trials(nodes(), 1, gpu_gib=8)
    peaks = [2.5, 2.5, 2.5, 2.5, 2.5, 6.0]
    specs = [
        TrialSpec("{}", str(number), number, seed=0, seeds=1, params={}, expected_gib=peak).to_dict()
        for number, peak in enumerate(peaks)
    ]
    found = tune.Tuner(
        tune.with_resources(trial, partial(resources_for, plan)),
        param_space=tune.grid_search(specs),
        run_config=tune.RunConfig(
            storage_path=sys.argv[2], verbose=0, callbacks=[FullGpuOnRetry(plan)],
            failure_config=tune.FailureConfig(max_failures=2),
        ),
    ).fit()
rows = [{name: each.metrics[name] for name in ("number", "cpus", "gpus", "device")} for each in found]
print(json.dumps({"unknown": unknown, "rows": rows}))
"""
STUDY = """
import sys
from pathlib import Path
import ray
from ossnet.config import Config
from ossnet.data import Store
from ossnet.planning.estimator import PeakEstimator
from ossnet.distributed.cluster.connection import connect
from ossnet.distributed.tuning.storage import TuningStudy
from ossnet.distributed.cluster.nodes import nodes
from ossnet.distributed.cluster.resources import plan_trials
from ossnet.distributed.tracking.actor import start_tracker
from ossnet.distributed.launch import write_report
from ossnet.distributed.tuning.study import StudySpec, run_study
from ossnet.distributed.tuning.search_space import Space
from ossnet.distributed.tracking.client import TrackingConfig

folder, store, config = Path(sys.argv[1]), Store.open(Path(sys.argv[2])), Config.from_json(sys.argv[3])
ray.init(address="local", num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
with connect():
    spec = StudySpec(
        name="mine", space=Space(folder / "mine.py"), base=config, store=store, output=folder / "study",
        tracking=TrackingConfig.at(folder, "mine"), trials=2,
    )
    spec.output.mkdir()
    study = TuningStudy.open_or_create(spec.database, "mine", spec.optimization)
    placement = plan_trials(nodes(), 1, gpu_gib=4)
    with start_tracker(spec.tracking, spec.output, study.parent_run_key) as tracker:
        report = lambda: write_report(spec, study)
        options = dict(placement=placement, estimator=PeakEstimator(1), time_limit=None, report=report)
        run_study(spec, study, tracker, **options)
"""
SPACE = """
POINTS_TO_EVALUATE = [{"width": 16}, {"width": 32}]

def space(trial):
    width = trial.suggest_categorical("width", [16, 32, 2**10])
    return {"model.decoder_width": width, "sampling.border_fraction": trial.suggest_float("border", 0, 0.5)}
"""


def script(text: str, *arguments: object) -> str:
    command = [sys.executable, "-c", text, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_ray_places_trials_by_parts_of_gpus_and_a_lost_one_continues_alone(tmp_path: Path) -> None:
    (tmp_path / "begun").mkdir()
    placed = json.loads(script(PLACED, tmp_path / "begun", tmp_path / "ray").splitlines()[-1])
    assert placed["unknown"] is None
    rows: dict[int, dict[str, Any]] = {row.pop("number"): row for row in placed["rows"]}
    for number in range(4):
        assert (rows[number]["cpus"], rows[number]["gpus"]) == (1, 0.5)  # 2.5 GiB and the margin, of 8 GiB
    assert sorted(rows[number]["device"] for number in range(4)) == ["0", "0", "1", "1"]
    for number in (4, 5):
        assert (rows[number]["cpus"], rows[number]["gpus"]) == (2, 1.0)


def test_what_no_gpu_has_room_for_is_reported_to_the_sampler_and_replaced(
    tiny: Config, store: Store, tmp_path: Path
) -> None:
    small = tiny.resolve_for(store)
    room = predict(small.replace({"model.decoder_width": 32})).allocated_gib
    gpu_gib = (room * (1 + 1e-9) * MARGIN.factor * GIB + MARGIN.fixed) / GIB
    sharing = GpuSharing(gpu_gib, cpus=12, gpus=12)
    spec = make_spec(tmp_path, SPACE, tiny, store, output=tmp_path, trials=12)
    study = TuningStudy.open_or_create(spec.database, spec.name, spec.optimization)
    search = StudySearch(
        spec,
        study,
        TrialMonitor(),
        placement=TrialPlacement(1, WorkerResources(1, 1), concurrent=12, sharing=sharing),
        estimator=PeakEstimator(1),
    )
    begun = [search.suggest(str(number)) for number in range(12)]
    assert {each["params"]["width"] for each in begun if isinstance(each, dict)} == {16, 32}
    assert all(isinstance(each, dict) and each["expected_gib"] <= room for each in begun)
    rejected = [trial for trial in study.suggested_trials() if end_of(trial) is TrialEnd.INFEASIBLE_PREDICTED]
    assert {each.params["width"] for each in rejected} == {2**10}
    assert len(study.started_trials()) == 12


@pytest.mark.slow
def test_a_study_whose_trials_share_a_gpu(tiny: Config, store: Store, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    (tmp_path / "mine.py").write_text(SPACE)
    script(STUDY, tmp_path, store.root, tiny.resolve_for(store).to_json())
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("mine")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], "tags.trial != ''")
    assert len(found) == 2
    for run in found:
        assert run.data.tags["gpus"] == "0.2"  # 0.8 GB of 4 GiB, and a little
        assert run.data.metrics["memory/predicted_gib"] > 0  # without a budget too
        hours = run.data.metrics["time/elapsed_s"] / 3600
        assert run.data.metrics["cost/gpu_hours"] == pytest.approx(0.2 * hours)
    page = (tmp_path / "study" / "report" / "report.html").read_text()
    assert "GPU-minutes were spent" in page
