"""The manifests of KubeRay: valid by its schemas, scaling from nothing, closed to strangers."""

import json
import re
import shlex
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "cluster" / "kuberay"
GPU_GIB = 14  # of a T4, as the comment beside it says
IN_IMAGE = "/home/ray/project"
SHARED = "/home/ray/ossnet"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the schemas are megabytes

Tree = dict[str, Any]


def manifest(name: str) -> Tree:
    return yaml.load((FOLDER / f"{name}.yaml").read_text(), LOADER)


def cluster_spec(name: str) -> Tree:
    spec = manifest(name)["spec"]
    return spec.get("rayClusterSpec", spec)


def containers(spec: Tree) -> list[Tree]:
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    return [container for group in groups for container in group["template"]["spec"]["containers"]]


def gpus(group: Tree) -> int:
    limits = [each["resources"]["limits"] for each in group["template"]["spec"]["containers"]]
    return sum(int(limit.get("nvidia.com/gpu", 0)) for limit in limits)


def number(quantity: str) -> float:
    """An amount as Kubernetes writes it: `500m`, `24Gi`."""
    found = re.fullmatch(r"(\d+)([a-zA-Z]*)", quantity)
    assert found is not None, quantity
    return int(found[1]) * {"m": 1e-3, "Gi": 2**30, "Mi": 2**20, "": 1.0}[found[2]]


def json_schema(node: Any) -> Any:
    """A structural schema of Kubernetes as a JSON Schema that also refuses fields it does not name."""
    if isinstance(node, list):
        return [json_schema(each) for each in node]
    if not isinstance(node, dict):
        return node
    if node.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    schema = {key: json_schema(value) for key, value in node.items() if key not in {"properties", "default"}}
    if "properties" in node:
        properties = node["properties"]
        schema["properties"] = {name: json_schema(each) for name, each in properties.items()}
        # The API server fills defaults in before it checks what is required.
        schema["required"] = [name for name in node.get("required", []) if "default" not in properties[name]]
        if not node.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
    return schema


@cache
def validator(definition: Path) -> Draft202012Validator:
    versions = yaml.load(definition.read_text(), LOADER)["spec"]["versions"]
    stored = next(version for version in versions if version["storage"])
    schema = json_schema(stored["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    return Draft202012Validator(schema)


def complaints(document: Tree, shared: Path) -> list[str]:
    definition = shared / "crds" / f"{document['kind'].lower()}s.yaml"
    if not definition.is_file():
        pytest.skip(f"no definition of {document['kind']} in shared/crds")
    errors = validator(definition).iter_errors(document)
    return ["/".join(map(str, error.absolute_path)) + f": {error.message}" for error in errors]


@pytest.mark.parametrize("name", ["raycluster", "rayjob"])
def test_the_schema_accepts_it(name: str, shared: Path) -> None:
    assert complaints(manifest(name), shared) == []


def misspell(spec: Tree) -> None:
    spec["workerGroupSpec"] = spec.pop("workerGroupSpecs")


def without_containers(spec: Tree) -> None:
    del spec["headGroupSpec"]["template"]["spec"]["containers"]


def quoted_number(spec: Tree) -> None:
    spec["workerGroupSpecs"][0]["maxReplicas"] = "8"


def unknown_mode(spec: Tree) -> None:
    spec["authOptions"]["mode"] = "tokens"


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        (misspell, "'workerGroupSpec' was unexpected"),
        (without_containers, "'containers' is a required property"),
        (quoted_number, "spec/workerGroupSpecs/0/maxReplicas: '8' is not of type 'integer'"),
        (unknown_mode, "spec/authOptions/mode: 'tokens' is not one of"),
    ],
)
def test_the_schema_would_refuse(fault: Callable[[Tree], None], complaint: str, shared: Path) -> None:
    document = manifest("raycluster")
    fault(document["spec"])
    assert any(complaint in each for each in complaints(document, shared))


def test_the_job_runs_on_the_cluster_next_to_it() -> None:
    assert cluster_spec("rayjob") == cluster_spec("raycluster")


def test_workers_scale_from_nothing() -> None:
    spec = cluster_spec("raycluster")
    assert spec["enableInTreeAutoscaling"] is True
    for group in spec["workerGroupSpecs"]:
        assert 0 == group["minReplicas"] == group["replicas"] < group["maxReplicas"], group["groupName"]
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_the_gpu_group_asks_for_gpus_and_no_other_does() -> None:
    spec = cluster_spec("raycluster")
    assert {group["groupName"]: gpus(group) for group in spec["workerGroupSpecs"]} == {"gpu": 1, "cpu": 0}
    assert gpus(spec["headGroupSpec"]) == 0


def test_every_container_has_requests_within_limits() -> None:
    for container in containers(cluster_spec("raycluster")):
        requests, limits = container["resources"]["requests"], container["resources"]["limits"]
        assert requests.keys() == limits.keys() >= {"cpu", "memory"}
        assert all(number(requests[name]) <= number(limits[name]) for name in limits)


def test_tokens_are_required_and_stand_in_no_file() -> None:
    spec = cluster_spec("raycluster")
    assert spec["authOptions"] == {"mode": "token"}
    given = [variable for container in containers(spec) for variable in container.get("env", [])]
    assert {variable["name"] for variable in given} == {"OSSNET_AUTOSCALED_NODES"}


def test_jobs_see_what_the_autoscaler_may_add() -> None:
    spec = cluster_spec("raycluster")

    def resources(group: Tree) -> dict[str, int]:
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        amount = {"GPU": gpus(group)} if gpus(group) else {}
        return {"CPU": int(limits["cpu"]), **amount, "memory": int(number(limits["memory"]))}

    (variable,) = spec["headGroupSpec"]["template"]["spec"]["containers"][0]["env"]
    assert json.loads(variable["value"]) == [
        {"count": group["maxReplicas"], "resources": resources(group)}
        | ({"gpu_gib": GPU_GIB} if gpus(group) else {})
        for group in spec["workerGroupSpecs"]
    ]


def test_all_pods_mount_the_same_claim() -> None:
    claim = manifest("storage")
    assert claim["kind"] == "PersistentVolumeClaim"
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    spec = cluster_spec("raycluster")
    for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
        pod = group["template"]["spec"]
        volumes = {each["name"]: each["persistentVolumeClaim"]["claimName"] for each in pod["volumes"]}
        assert volumes == {"ossnet": claim["metadata"]["name"]}
        assert pod["containers"][0]["volumeMounts"] == [{"name": "ossnet", "mountPath": SHARED}]


def test_mlflow_listens_on_the_loopback_of_the_head() -> None:
    _, mlflow = cluster_spec("raycluster")["headGroupSpec"]["template"]["spec"]["containers"]
    assert mlflow["workingDir"] == SHARED
    assert "mlflow server --host 127.0.0.1 " in mlflow["args"][0]
    assert mlflow["args"][0].endswith("--backend-store-uri sqlite:///mlflow.db")
    assert "ports" not in mlflow


def test_the_entrypoint_names_files_of_this_project() -> None:
    entrypoint = manifest("rayjob")["spec"]["entrypoint"]
    # The operator puts the line into a shell command of its own, so it must be one plain command.
    words = shlex.split(entrypoint)
    assert shlex.join(words) == entrypoint
    assert words[0] == "python"
    named = [word for word in words if word.endswith(".py")]
    assert len(named) == 1
    for path in named:
        assert (ROOT / Path(path).relative_to(IN_IMAGE)).is_file(), path
    for option in ("--data", "--output"):
        assert Path(words[words.index(option) + 1]).is_relative_to(SHARED)


def test_a_search_goes_on_on_another_cluster() -> None:
    spec = manifest("rayjob")["spec"]
    assert spec["backoffLimit"] > 0
    assert spec["entrypoint"].endswith(
        "--resume auto --wait-at-most 5m"
    )  # a dead head's lock lasts 3 minutes


def test_versions_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    )
    ray = pins["ray"]
    requirement = next(each for each in project["dependencies"] if each.startswith("ray["))
    assert ray.rsplit(".", 1)[0] in requirement
    spec = cluster_spec("raycluster")
    assert spec["rayVersion"] == ray
    assert {container["image"] for container in containers(spec)} == {f"ossnet:{project['version']}"}
    dockerfile = (FOLDER / "Dockerfile").read_text()
    assert set(re.findall(r"rayproject/ray:([\d.]+)", dockerfile)) == {ray}
    assert f"-t ossnet:{project['version']} " in dockerfile


def test_the_image_holds_what_the_job_needs() -> None:
    dockerfile = (FOLDER / "Dockerfile").read_text()
    assert f"WORKDIR {IN_IMAGE}\n" in dockerfile
    copied = re.findall(r"^COPY --chown=\S+ (.+) \S+$", dockerfile, re.MULTILINE)
    assert {"ossnet", "jobs", "search_spaces", "pyproject.toml", "setup.py", "constraints.txt"} == set(
        " ".join(copied).split()
    )


def test_nobody_else_reaches_the_pods() -> None:
    policy = manifest("network-policy")
    assert policy["kind"] == "NetworkPolicy"
    ours = {"matchLabels": {"ray.io/is-ray-node": "yes"}}  # the operator labels every pod of Ray so
    assert policy["spec"]["podSelector"] == ours
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    among, from_outside = policy["spec"]["ingress"]
    assert among == {"from": [{"podSelector": ours}]}
    assert all("podSelector" in each for each in from_outside["from"])
    assert {"matchLabels": {"job-name": manifest("rayjob")["metadata"]["name"]}} in [
        each["podSelector"] for each in from_outside["from"]
    ]
    ports = cluster_spec("raycluster")["headGroupSpec"]["template"]["spec"]["containers"][0]["ports"]
    dashboard = next(each["containerPort"] for each in ports if each["name"] == "dashboard")
    assert from_outside["ports"] == [{"protocol": "TCP", "port": dashboard}]


def test_credentials_come_from_a_secret_that_no_file_holds() -> None:
    for container in containers(cluster_spec("raycluster")):
        assert container["envFrom"] == [{"secretRef": {"name": "ossnet-storage", "optional": True}}]
        names = {variable["name"] for variable in container.get("env", [])}
        assert not [name for name in names if "KEY" in name or "SECRET" in name or "TOKEN" in name]
    assert not [path for path in FOLDER.glob("*.yaml") if "kind: Secret" in path.read_text()]


def test_both_wait_in_one_queue() -> None:
    queues = {
        manifest(name)["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] for name in ("raycluster", "rayjob")
    }
    assert queues == {"ossnet"}
