"""Trials that share GPUs, as Ray places them: fake GPUs on a cluster of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ossnet.config import Config
from ossnet.data import Store
from ossnet.distributed.cluster.oom_patch import HostOOMMonitor
from ossnet.distributed.tuning.config import OptimizationConfig
from ossnet.distributed.tuning.feasibility import PeakEstimator
from ossnet.distributed.tuning.search_space import Space
from ossnet.distributed.tuning.searcher import StudySearch
from ossnet.distributed.tuning.storage import TuningStudy
from ossnet.planning import predict

PLACED = """
import json, os, sys, time
from functools import partial
from pathlib import Path
import ray
from ray import tune
from ossnet.distributed.cluster.connection import connect
from ossnet.distributed.cluster.gpu_sharing import TrialResources, FullGpuOnRetry
from ossnet.distributed.cluster.nodes import min_gpu_memory_gib, nodes
from ossnet.distributed.cluster.resources import plan_trials
from ossnet.distributed.tuning.study import _asks

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
    unknown = min_gpu_memory_gib()  # fake GPUs have no memory to be asked for
    plan = plan_trials(nodes(), 1, gpu_gib=8)
    peaks = [2.5, 2.5, 2.5, 2.5, 2.5, 6.0]
    spaces = [{"number": number, "expected_gib": peak} for number, peak in enumerate(peaks)]
    found = tune.Tuner(
        tune.with_resources(trial, partial(_asks, plan)),
        param_space=tune.grid_search(spaces),
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
from ossnet.distributed.tuning.feasibility import PeakEstimator
from ossnet.distributed.cluster.connection import connect
from ossnet.distributed.tuning.storage import TuningStudy
from ossnet.distributed.cluster.nodes import nodes
from ossnet.distributed.cluster.resources import plan_trials
from ossnet.distributed.tracking.actor import start_tracker
from ossnet.distributed.tuning.study import StudySpec, search, write_report
from ossnet.distributed.tuning.search_space import Space
from ossnet.distributed.tuning.early_stopping import EarlyStoppingConfig
from ossnet.distributed.tracking.client import TrackingConfig

folder, store, config = Path(sys.argv[1]), Store.open(Path(sys.argv[2])), Config.from_json(sys.argv[3])
ray.init(address="local", num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
with connect():
    study = StudySpec(
        name="mine", space=Space(folder / "mine.py"), base=config, store=store, output=folder / "study",
        trials=2, plan=plan_trials(nodes(), 1, gpu_gib=4), early_stopping=EarlyStoppingConfig(),
    )
    study.output.mkdir()
    notebook = TuningStudy.at(study.database, "mine", study.goals)
    tracking = TrackingConfig.at(folder, "mine")
    with start_tracker(tracking, notebook.identity) as tracker:
        page = lambda: write_report(tracking, study, notebook)
        search(study, notebook, tracker, forecast=PeakEstimator(1), report=page)
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
    (tmp_path / "mine.py").write_text(SPACE)
    small = tiny.resolve_for(store)
    room = predict(small.replace({"model.decoder_width": 32})).allocated_gib
    study = TuningStudy.at(tmp_path / "study.db", "mine", OptimizationConfig())
    search = StudySearch(
        Space(tmp_path / "mine.py"),
        base=tiny,
        store=store,
        notebook=study,
        goals=OptimizationConfig(),
        trials=12,
        concurrent=12,
        forecast=PeakEstimator(1),
        kills=HostOOMMonitor(),
        output=tmp_path,
        capacity_gib=room,
    )
    begun = [search.suggest(str(number)) for number in range(12)]
    assert {each["params"]["width"] for each in begun if isinstance(each, dict)} == {16, 32}
    assert all(isinstance(each, dict) and each["expected_gib"] <= room for each in begun)
    rejected = [each for each in study.seen() if each.user_attrs.get("infeasible") == "predicted"]
    assert {each.params["width"] for each in rejected} == {2**10}
    assert len(study.started()) == 12


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
