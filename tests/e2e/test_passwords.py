"""What is secret in a job's environment is in nothing that it, Ray or MLflow prints or writes."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from services import mlflow_server

ROOT = Path(__file__).parents[2]
IN_URL, AS_VARIABLE, OF_STORAGE = "pw-3Yk8dQ", "pw-9ZrT2m", "pw-5Vb7nX"
SECRETS = (IN_URL, AS_VARIABLE, OF_STORAGE)

pytestmark = pytest.mark.slow


def texts(*folders: Path) -> Iterator[tuple[Path, bytes]]:
    """All files below folders."""
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                yield path, path.read_bytes()


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    """Where Ray keeps its logs; a short path, as its sockets need."""
    with TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def test_passwords_are_nowhere(
    phantom_store: Path,
    tiny_training: list[str],
    tiny_network: list[str],
    ray_folder: Path,
    tmp_path: Path,
) -> None:
    """Of a study that ends well, its report, and one whose server does not answer."""
    options = ["--data", phantom_store, "--trials", 1, "--training.epochs", 2, *tiny_training, *tiny_network]
    with mlflow_server(tmp_path) as port:
        environment = {
            **os.environ,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": OF_STORAGE,
            "MLFLOW_TRACKING_PASSWORD": AS_VARIABLE,
            "MLFLOW_TRACKING_URI": f"http://me:{IN_URL}@127.0.0.1:{port}",
            "MLFLOW_TRACKING_USERNAME": "me",
            "OMP_NUM_THREADS": "1",
            "RAY_TMPDIR": str(ray_folder),
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
        }

        def run(*words: object) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, str(ROOT / "jobs" / f"{words[0]}.py"), *map(str, words[1:])]
            return subprocess.run(
                command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
            )

        searched = run("tune", *options, "--output", "study")
        assert searched.returncode == 0, searched.stderr
        reported = run("report", "--experiment", "default", "--output", "report")
        assert reported.returncode == 0, reported.stderr
    refused = run("tune", *options, "--output", "other")
    assert refused.returncode == 2
    printed = [done.stdout + done.stderr for done in (searched, reported, refused)]
    assert f"http://me:***@127.0.0.1:{port}" in printed[0]
    lines = [line for text in printed for line in text.splitlines()]
    assert not [line for line in lines if any(secret in line for secret in SECRETS)]
    found = dict(texts(tmp_path, ray_folder))
    assert any(path.name == "raylet.out" for path in found)
    assert (tmp_path / "mlflow.db") in found
    leaks = {
        (secret, str(path)) for path, text in found.items() for secret in SECRETS if secret.encode() in text
    }
    assert not leaks
