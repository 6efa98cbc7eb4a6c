"""What keeps a server from starting is one line, before Ray is started."""

import socket
from pathlib import Path

import pytest

from ossnet.distributed.serving import launch
from ossnet.distributed.serving.bearer import VARIABLE
from ossnet.distributed.serving.launch import Server, ServerSpec, check_installed, serving
from ossnet.errors import UserError
from ossnet.inference.batch.runner import PredictionJob
from ossnet.inference.config import PredictConfig


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


def refused(
    tmp_path: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    device: str = "cpu",
    token: Path | None = None,
) -> str:
    job = PredictionJob((tmp_path / "none",), tmp_path, PredictConfig(device=device))
    with pytest.raises(UserError) as error, serving(ServerSpec(job, host, port, 1 << 30), token):
        pass
    return str(error.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.invalid"])
def test_other_machines_need_a_token_of_the_users(host: str, tmp_path: Path) -> None:
    line = refused(tmp_path, host=host)
    assert line.startswith(f"host {host}: expected 127.0.0.1, or a token of your own")
    assert VARIABLE in line


def test_with_a_token_of_the_users_a_host_is_free(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a-token-of-the-user")
    assert refused(tmp_path, host="0.0.0.0", port=0, token=token).startswith("port: expected a number from 1")


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert f"127.0.0.1:{port}: expected a free address" in refused(tmp_path, port=port)


def test_a_cluster_is_not_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    assert refused(tmp_path).startswith("RAY_ADDRESS: expected no cluster")


def test_a_checkpoint_that_is_none_is_said_first(tmp_path: Path) -> None:
    assert str(tmp_path / "none") in refused(tmp_path, port=free_port())
    assert "device 'tpu'" in refused(tmp_path, port=free_port(), device="tpu")


def test_a_missing_package_is_said_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    check_installed()
    monkeypatch.setitem(launch._PACKAGES, "no_such_module", "no-such-package")
    with pytest.raises(UserError, match=r'no no-such-package; pip install "ossnet\[serve\]"$'):
        check_installed()


def test_the_example_is_a_command_of_a_shell() -> None:
    server = Server("http://127.0.0.1:1", "a", ("FLAIR", "T1 w"), ("edema",), Path("/a b/token"))
    assert server.example == (
        "curl -H \"Authorization: Bearer $(cat '/a b/token')\" -F FLAIR=@FLAIR.nii.gz "
        "-F 'T1 w=@T1 w.nii.gz' -o labels.nii.gz http://127.0.0.1:1/segment"
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
