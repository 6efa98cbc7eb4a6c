"""The doctor on the Ray of the tests, which is one node."""

import json
from pathlib import Path

import pytest

from ossnet.commands import doctor
from ossnet.distributed.doctor import check_mlflow, check_output
from ossnet.distributed.tracking.store import TrackingConfig

NODES = {"versions", "GPUs", "host names", "disks", "shared memory", "token", "ports"}
CHECKS = NODES | {"clocks", "network", "output", "MLflow"}


@pytest.mark.usefixtures("cluster")
def test_every_check_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    doctor.main(["--json"])
    found = json.loads(capsys.readouterr().out)
    assert {each["what"] for each in found["checks"]} == CHECKS
    levels = {each["what"]: each["level"] for each in found["checks"]}
    assert levels.pop("disks") in {"ok", "warning"}
    assert levels.pop("shared memory") in {"ok", "warning"}
    assert set(levels.values()) == {"ok"}, found
    assert found["errors"] == 0
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as leaving:
        doctor.main(["--output", "file/runs"])
    assert leaving.value.code == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(CHECKS)
    (line,) = (each for each in lines if each.startswith("error"))
    assert f"output: {tmp_path}/file/runs: " in line
    assert line.endswith("; name another --output")


def test_a_store_of_runs_that_cannot_be_used_is_an_error(tmp_path: Path, mlflow_store: Path) -> None:
    assert check_mlflow(TrackingConfig(f"sqlite:///{tmp_path}/none.db", "x", None)).level == "ok"
    assert not (tmp_path / "none.db").exists()
    assert check_mlflow(TrackingConfig(f"sqlite:///{mlflow_store}", "x", None)).level == "ok"
    (tmp_path / "text.db").write_text("no database, but longer than a header of one" * 100)
    assert check_mlflow(TrackingConfig(f"sqlite:///{tmp_path}/text.db", "x", None)).level == "error"


@pytest.mark.usefixtures("cluster")
def test_a_folder_that_was_there_stays(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    assert check_output(tmp_path / "runs").level == "ok"
    assert list(tmp_path.rglob("*")) == [tmp_path / "runs"]
