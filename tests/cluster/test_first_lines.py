"""What the first lines of each file of cluster/ say, and the recipe of an image."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

CLUSTER = Path(__file__).parents[2] / "cluster"
FILES = [
    *(f"{name}.yaml" for name in ("aws", "gcp", "azure", "on-prem", "local-autoscaling")),
    *("kuberay/raycluster.yaml", "kuberay/rayjob.yaml", "slurm/tune.sbatch"),
]
RUN_HERE = """#!/usr/bin/env bash
shift
HOME="$MACHINE" bash -c "cd && $*"
"""
COPY_HERE = """#!/usr/bin/env bash
words=("${@:1:$#-1}")
exec "$REAL_RSYNC" "${words[@]}" "$MACHINE/${!##*:}"
"""
RECORD = """#!/usr/bin/env bash
echo "$(basename "$0") $*" >> "$RECORD"
"""


@pytest.mark.parametrize("name", FILES)
def test_each_file_says_what_it_costs_and_how_to_use_it(name: str) -> None:
    lines = (CLUSTER / name).read_text().splitlines()
    first = [line for line in lines[:20] if line.startswith("# ")]
    begins = [line.removeprefix("# ").split()[0].rstrip(":") for line in first]
    wanted = ["Forgotten", "Start", "Submit", "Watch", "Fetch", "Stop"]
    assert [word for word in begins if word in wanted] == wanted


@pytest.mark.parametrize("cloud", ["aws", "gcp", "azure"])
def test_an_image_has_what_a_node_would_install(cloud: str) -> None:
    recipe = (CLUSTER / "image.sh").read_text()
    cluster = yaml.safe_load((CLUSTER / f"{cloud}.yaml").read_text())
    _, packages, project, _ = cluster["setup_commands"]
    install, folder = packages.split("install -y ")
    assert install.rpartition("sudo ")[2] in recipe
    assert f"install -y {folder} " in recipe
    assert project in recipe
    remote = "/home/ubuntu/install/"
    mounted = {local for to, local in cluster["file_mounts"].items() if to.startswith(remote)}
    (copied,) = (line for line in recipe.splitlines() if line.startswith("rsync"))
    assert mounted - {"cluster/mlflow.sh", "cluster/preemption.sh"} < set(copied.split())


def test_an_image_is_made_over_ssh(tmp_path: Path) -> None:
    """With stand-ins for ssh and what installs; a machine that is a folder here."""
    machine, binaries = tmp_path / "machine", tmp_path / "bin"
    machine.mkdir()
    binaries.mkdir()
    for name, text in {"ssh": RUN_HERE, "rsync": COPY_HERE, "sudo": RECORD, "make": RECORD}.items():
        (binaries / name).write_text(text)
        (binaries / name).chmod(0o755)
    own = {"MACHINE": str(machine), "RECORD": str(tmp_path / "record"), "REAL_RSYNC": "/usr/bin/rsync"}
    if not Path(own["REAL_RSYNC"]).exists():
        pytest.skip("needs rsync")
    environment = os.environ | own | {"PATH": f"{binaries}:{os.environ['PATH']}"}
    subprocess.run(
        ["bash", str(CLUSTER / "image.sh"), "ubuntu@host"], cwd=CLUSTER.parent, env=environment, check=True
    )
    assert (machine / "install" / "ossnet" / "config.py").is_file()
    assert not list((machine / "install").rglob("__pycache__"))
    record = (tmp_path / "record").read_text().splitlines()
    assert record[-1] == f"make -C {machine}/install setup VENV={machine}/venv"
