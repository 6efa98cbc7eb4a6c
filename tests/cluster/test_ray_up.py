"""The configurations of `ray up`: valid by Ray's own check, scaling from nothing, closed to strangers."""

import copy
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CLOUDS = ("aws", "gcp")
COMMANDS = (
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)


@pytest.fixture(params=CLOUDS)
def cluster(request: pytest.FixtureRequest) -> dict[str, Any]:
    return yaml.safe_load((ROOT / "cluster" / f"{request.param}.yaml").read_text())


@pytest.fixture
def start_commands(cluster: dict[str, Any]) -> list[str]:
    """The two commands that start Ray, on the head and on a worker."""
    commands = cluster["head_start_ray_commands"] + cluster["worker_start_ray_commands"]
    return [command for command in commands if "ray start" in command]


def prepared(cluster: dict[str, Any]) -> dict[str, Any]:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(copy.deepcopy(cluster))
    validate_config(config)
    return config


def workers(cluster: dict[str, Any]) -> dict[str, Any]:
    types = cluster["available_node_types"]
    return {name: each for name, each in types.items() if name != cluster["head_node_type"]}


def test_ray_accepts_it(cluster: dict[str, Any]) -> None:
    assert prepared(cluster)["head_node_type"] in cluster["available_node_types"]


def test_ray_would_refuse_a_misspelt_key(cluster: dict[str, Any]) -> None:
    from jsonschema import ValidationError

    cluster["idle_timeout_minuets"] = cluster.pop("idle_timeout_minutes")
    with pytest.raises(ValidationError, match="idle_timeout_minuets"):
        prepared(cluster)


def test_the_head_does_no_work_and_has_no_gpu(cluster: dict[str, Any]) -> None:
    head = cluster["available_node_types"][cluster["head_node_type"]]
    assert head["resources"] == {"CPU": 0}
    assert "guestAccelerators" not in head["node_config"]


def test_workers_scale_from_nothing_and_go_when_idle(cluster: dict[str, Any]) -> None:
    for name, worker in workers(cluster).items():
        assert worker["min_workers"] == 0, name
        assert worker["min_workers"] < worker["max_workers"] <= cluster["max_workers"], name
    assert 0 < cluster["idle_timeout_minutes"] <= 30


def test_there_are_workers_with_and_without_gpus(cluster: dict[str, Any]) -> None:
    gpus = {name: worker["resources"].get("GPU", 0) for name, worker in workers(cluster).items()}
    assert gpus == {"gpu_worker": 1, "cpu_worker": 0}


def test_a_gpu_type_rents_a_machine_with_gpus(cluster: dict[str, Any]) -> None:
    for name, worker in workers(cluster).items():
        machine = worker["node_config"]
        if "InstanceType" in machine:
            has_gpus = re.match(r"(g|p)\d", machine["InstanceType"]) is not None
            assert has_gpus == ("nvidia" in machine["ImageId"]), name
        else:
            accelerators = machine.get("guestAccelerators", [])
            assert sum(each["acceleratorCount"] for each in accelerators) == worker["resources"].get("GPU", 0)
            source = machine["disks"][0]["initializeParams"]["sourceImage"]
            has_gpus = bool(accelerators)
            assert has_gpus == ("nvidia" in source), name
        assert has_gpus == (worker["resources"].get("GPU", 0) > 0), name


def test_workers_are_spot_and_the_head_is_not(cluster: dict[str, Any]) -> None:
    def spot(machine: dict[str, Any]) -> bool:
        market = machine.get("InstanceMarketOptions", {}).get("MarketType")
        return "spot" in (market, machine.get("scheduling", {}).get("provisioningModel", "").lower())

    assert all(spot(worker["node_config"]) for worker in workers(cluster).values())
    assert not spot(cluster["available_node_types"][cluster["head_node_type"]]["node_config"])


@pytest.mark.parametrize(
    ("demand", "expected"),
    [
        ([{"CPU": 1, "GPU": 1}] * 4, {"gpu_worker": 4}),
        ([{"CPU": 1, "GPU": 0.25}] * 8, {"gpu_worker": 2}),
        ([{"CPU": 1, "memory": 2**31}] * 16, {"cpu_worker": 2}),
        ([{"CPU": 1, "GPU": 1}] * 50, {"gpu_worker": 8}),
    ],
    ids=["whole GPUs", "shared GPUs", "no GPU", "more than there may be"],
)
def test_the_autoscaler_adds_the_right_nodes(
    cluster: dict[str, Any], demand: list[dict[str, float]], expected: dict[str, int]
) -> None:
    from functools import partial

    from ray.autoscaler._private.node_provider_availability_tracker import NodeAvailabilitySummary
    from ray.autoscaler._private.resource_demand_scheduler import _default_utilization_scorer, get_nodes_for

    scorer = partial(_default_utilization_scorer, node_availability_summary=NodeAvailabilitySummary({}))
    config = prepared(cluster)
    added, _ = get_nodes_for(
        config["available_node_types"],
        {config["head_node_type"]: 1},
        config["head_node_type"],
        config["max_workers"],
        demand,
        scorer,
    )
    assert added == expected


def test_jobs_receive_what_the_autoscaler_may_add(cluster: dict[str, Any], start_commands: list[str]) -> None:
    head = next(command for command in start_commands if "--head" in command)
    listed = re.search(r"OSSNET_AUTOSCALED_NODES='(.+?)'", head)
    assert listed is not None
    assert json.loads(listed[1]) == [
        {"count": worker["max_workers"], "resources": worker["resources"]}
        | ({"gpu_gib": 22} if "GPU" in worker["resources"] else {})  # an L4's
        for worker in workers(cluster).values()
    ]


def test_tokens_are_required_and_carried_by_a_file(
    cluster: dict[str, Any], start_commands: list[str]
) -> None:
    assert len(start_commands) == 2
    assert all("RAY_AUTH_MODE=token" in command for command in start_commands)
    assert cluster["file_mounts"]["/home/ubuntu/.ray/auth_token"] == "~/.ray/auth_token"


def test_the_dashboard_listens_on_loopback_alone(start_commands: list[str]) -> None:
    head = next(command for command in start_commands if "--head" in command)
    assert "--dashboard-host=127.0.0.1" in head
    assert "0.0.0.0" not in head


def test_every_command_is_sound_bash(cluster: dict[str, Any]) -> None:
    for kind in COMMANDS:
        for command in cluster.get(kind, []):
            # Ray runs each inside parentheses, where a comment would swallow the closing one.
            subprocess.run(["bash", "-n", "-c", f"({command})"], check=True)


def test_nodes_install_as_everyone_does(cluster: dict[str, Any]) -> None:
    mounted = {Path(remote).name: local for remote, local in cluster["file_mounts"].items()}
    assert {
        "Makefile",
        "constraints.txt",
        "pyproject.toml",
        "setup.py",
        "ossnet",
        "search_spaces",
    } <= mounted.keys()
    assert all((ROOT / local).exists() for local in mounted.values() if not local.startswith("~"))
    assert any("make -C ~/install setup" in command for command in cluster["setup_commands"])


def test_workers_see_what_the_head_writes(cluster: dict[str, Any]) -> None:
    shared = next(each for each in cluster["head_setup_commands"] if "exports" in each)
    mounted = next(each for each in cluster["worker_start_ray_commands"] if "mount -t nfs" in each)
    assert '"$HOME/ossnet ' in shared
    assert '"$RAY_HEAD_IP:$HOME/ossnet" ~/ossnet' in mounted
    assert not any(Path(remote).is_relative_to("/home/ubuntu/ossnet") for remote in cluster["file_mounts"])


def test_disks_are_encrypted_and_metadata_wants_a_session() -> None:
    """Of AWS; Google encrypts disks and asks for a header by itself."""
    cluster = yaml.safe_load((ROOT / "cluster" / "aws.yaml").read_text())
    for name, node in cluster["available_node_types"].items():
        machine = node["node_config"]
        assert all(disk["Ebs"]["Encrypted"] for disk in machine["BlockDeviceMappings"]), name
        assert machine["MetadataOptions"]["HttpTokens"] == "required", name
        assert machine["MetadataOptions"]["HttpPutResponseHopLimit"] == 1, name


def test_machines_that_are_there_are_joined_with_a_token() -> None:
    cluster = yaml.safe_load((ROOT / "cluster" / "on-prem.yaml").read_text())
    assert prepared(cluster)["provider"]["type"] == "local"
    assert len(cluster["provider"]["worker_ips"]) == cluster["max_workers"]
    starts = cluster["head_start_ray_commands"] + cluster["worker_start_ray_commands"]
    commands = [command for command in starts if "ray start" in command]
    assert len(commands) == 2
    assert all("RAY_AUTH_MODE=token" in command for command in commands)
    assert "--dashboard-host=127.0.0.1" in commands[0]
    assert all((ROOT / local).exists() for local in cluster["file_mounts"].values() if local[0] != "~")
    for kind in COMMANDS:
        for command in cluster.get(kind, []):
            subprocess.run(["bash", "-n", "-c", f"({command})"], check=True)
