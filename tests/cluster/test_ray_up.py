"""The configurations of `ray up`: valid by Ray's own check, scaling from nothing, closed to strangers."""

import ast
import copy
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CLOUDS = ("aws", "gcp", "azure")
GPU_GIB = {"aws": 22, "gcp": 22, "azure": 14}  # of an L4, and of a T4
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
        elif "azure_arm_parameters" in machine:
            has_gpus = machine["azure_arm_parameters"]["vmSize"].startswith("Standard_N")
            assert has_gpus == (machine["azure_arm_parameters"]["imageOffer"] == "ubuntu-hpc"), name
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
        azure = machine.get("azure_arm_parameters", {}).get("priority", "").lower()
        return "spot" in (market, azure, machine.get("scheduling", {}).get("provisioningModel", "").lower())

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
        | ({"gpu_gib": GPU_GIB[cluster["provider"]["type"]]} if "GPU" in worker["resources"] else {})
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
    config = prepared(cluster)
    assert config["provider"]["type"] == "local"
    (machines,) = config["available_node_types"].values()
    assert len(cluster["provider"]["worker_ips"]) == machines["min_workers"] == config["max_workers"]
    starts = cluster["head_start_ray_commands"] + cluster["worker_start_ray_commands"]
    commands = [command for command in starts if "ray start" in command]
    assert len(commands) == 2
    assert all("RAY_AUTH_MODE=token" in command for command in commands)
    assert "--dashboard-host=127.0.0.1" in commands[0]
    assert all((ROOT / local).exists() for local in cluster["file_mounts"].values() if local[0] != "~")
    for kind in COMMANDS:
        for command in cluster.get(kind, []):
            subprocess.run(["bash", "-n", "-c", f"({command})"], check=True)


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """A simulated account in which the stack of aws-account.yaml was made; its outputs."""
    moto = pytest.importorskip("moto")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "simulated")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    monkeypatch.setenv("HOME", str(tmp_path))  # where Ray puts its key
    with moto.mock_aws():
        import boto3

        vpc = boto3.client("ec2").describe_vpcs()["Vpcs"][0]["VpcId"]
        values = {"Bucket": "mine", "Vpc": vpc, "SshFrom": "203.0.113.0/24"}
        boto3.client("cloudformation").create_stack(
            StackName="ossnet",
            TemplateBody=(ROOT / "cluster" / "aws-account.yaml").read_text(),
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in values.items()],
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
        stack = boto3.client("cloudformation").describe_stacks(StackName="ossnet")["Stacks"][0]
        yield {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}


def allowed(role: str) -> dict[str, list[dict[str, Any]]]:
    """The statements of a role by action."""
    import boto3

    iam, found = boto3.client("iam"), dict[str, list[dict[str, Any]]]()
    assert iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"] == []
    for name in iam.list_role_policies(RoleName=role)["PolicyNames"]:
        policy = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
        policy = ast.literal_eval(policy) if isinstance(policy, str) else policy  # as moto writes a stack's
        for statement in policy["Statement"]:
            assert statement["Effect"] == "Allow"
            actions = statement["Action"]
            for action in [actions] if isinstance(actions, str) else actions:
                found.setdefault(action, []).append(statement)
    return found


def test_roles_allow_what_the_cluster_does_and_no_more(account: dict[str, Any]) -> None:
    head, worker = allowed("ossnet-head"), allowed("ossnet-worker")
    assert {action.partition(":")[0] for action in worker} == {"s3"}
    assert {action.partition(":")[0] for action in head} == {"s3", "ec2", "iam", "ssm"}
    assert worker.keys() <= head.keys()
    for action, statements in head.items():
        assert not action.endswith("*") or action == "ec2:Describe*"
        for statement in statements:
            assert statement["Resource"] != "*" or action == "ec2:Describe*"
            if action.startswith("s3:"):
                assert statement["Resource"] in ("arn:aws:s3:::mine", "arn:aws:s3:::mine/*")
    (end,) = head["ec2:TerminateInstances"]
    assert end["Condition"] == {"StringEquals": {"aws:ResourceTag/ray-cluster-name": "ossnet"}}
    (give,) = head["iam:PassRole"]
    assert give["Resource"].endswith(":role/ossnet-worker")
    machine = next(each for each in head["ec2:RunInstances"] if "instance/*" in str(each["Resource"]))
    assert machine["Condition"] == {"StringEquals": {"aws:RequestTag/ray-cluster-name": "ossnet"}}


def test_ssh_comes_from_named_addresses_only(account: dict[str, Any]) -> None:
    import boto3

    (group,) = boto3.client("ec2").describe_security_groups(GroupIds=[account["Group"]])["SecurityGroups"]
    ranges = [
        (rule.get("FromPort"), each["CidrIp"]) for rule in group["IpPermissions"] for each in rule["IpRanges"]
    ]
    assert ranges == [(22, "203.0.113.0/24")]
    among = [each["GroupId"] for rule in group["IpPermissions"] for each in rule["UserIdGroupPairs"]]
    assert among == [account["Group"]]
    template = yaml.safe_load((ROOT / "cluster" / "aws-account.yaml").read_text())
    pattern = re.compile(template["Parameters"]["SshFrom"]["AllowedPattern"])
    assert pattern.match("203.0.113.7/32")
    assert not pattern.match("0.0.0.0/0")


def test_ray_makes_no_role_and_no_group_of_its_own(account: dict[str, Any]) -> None:
    import boto3
    from ray.autoscaler._private.aws.config import bootstrap_aws

    cluster = yaml.safe_load((ROOT / "cluster" / "aws.yaml").read_text())
    for node in cluster["available_node_types"].values():
        node["node_config"]["SecurityGroupIds"] = [account["Group"]]
        node["node_config"]["ImageId"] = "ami-12345678"
    groups = len(boto3.client("ec2").describe_security_groups()["SecurityGroups"])
    config = bootstrap_aws(prepared(cluster))
    types = config["available_node_types"]
    profiles = {name: node["node_config"]["IamInstanceProfile"] for name, node in types.items()}
    worker = {"Name": "ossnet-worker"}
    assert profiles == {"head": {"Name": "ossnet-head"}, "gpu_worker": worker, "cpu_worker": worker}
    assert "IamInstanceProfile" not in config.get("head_node", {})
    roles = {role["RoleName"] for role in boto3.client("iam").list_roles()["Roles"]}
    assert roles == {"ossnet-head", "ossnet-worker"}
    assert len(boto3.client("ec2").describe_security_groups()["SecurityGroups"]) == groups
    for name, node in types.items():
        assert node["node_config"]["SecurityGroupIds"] == [account["Group"]], name
