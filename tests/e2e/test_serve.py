"""jobs/serve.py as a person runs it, and what programs get from it."""

import gzip
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import nibabel
import numpy as np
import pytest
import requests
from job_process import ROOT, JobProcess

Job = Callable[..., subprocess.CompletedProcess[str]]
TOKEN = "a-token-of-the-user"


class ServerProcess(JobProcess):
    """The job, with folders of its own."""

    def __init__(self, folder: Path, checkpoint: Path, *options: object, **environment: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        self.url, self.folder = f"http://127.0.0.1:{port}", folder
        self.temporary, self.token_file = folder / "tmp", folder / "state" / "ossnet" / f"serve-{port}.token"
        self.temporary.mkdir()
        places = {"TMPDIR": str(self.temporary), "XDG_STATE_HOME": str(folder / "state")}
        options = ("--checkpoint", checkpoint, "--port", port, "--device", "cpu", *options)
        super().__init__(folder, "serve", *options, environment=places | environment)
        self.until(self.answers)

    def answers(self) -> bool:
        """Whether it is up."""
        with suppress(requests.ConnectionError):
            return requests.get(f"{self.url}/health", timeout=60).status_code == 200
        return False

    def segment(self, scan: Path, token: str) -> requests.Response:
        """Its answer to a 4-D scan."""
        with scan.open("rb") as file:
            headers = {"Authorization": f"Bearer {token}"}
            return requests.post(f"{self.url}/segment", files={"image": file}, headers=headers, timeout=120)

    def answer_to_the_page(self, scan: Path, folder: Path) -> bytes:
        """Its answer to the lines for Python of docs/clinic.md, run in a folder with a scan."""
        shutil.copy(scan, folder / "scan.nii.gz")
        page = (ROOT / "docs" / "clinic.md").read_text()
        (lines,) = re.findall(r"```python\n(from pathlib.*?)```", page, re.DOTALL)
        lines = lines.replace("http://127.0.0.1:8000", self.url)
        lines = lines.replace("~/.local/state/ossnet/serve-8000.token", str(self.token_file))
        subprocess.run([sys.executable, "-c", lines], cwd=folder, check=True)
        return (folder / "labels.nii.gz").read_bytes()

    def hosts(self) -> set[str]:
        """The addresses that its processes listen at."""
        done = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True)
        ours = {str(pid) for pid in self.processes()}
        listening = [
            line.split()[3] for line in done.stdout.splitlines() if set(re.findall(r"pid=(\d+)", line)) & ours
        ]
        assert len(listening) > 3
        return {address.rpartition(":")[0].replace("::ffff:", "").strip("[]") for address in listening}

    def ends(self, number: int) -> tuple[int, list[str]]:
        """Its exit status and log after a signal; nothing is left of it."""
        os.kill(self.process.pid, number)
        ended = self.end(limit_s=120)
        assert not self.processes()
        assert not self.token_file.exists()
        assert not list(self.temporary.glob("ossnet-serve-*"))
        return ended


@pytest.fixture
def serve(tmp_path: Path, phantom_checkpoint: Path) -> Iterator[Callable[..., ServerProcess]]:
    """Start a server, which is killed where the test does not end it."""
    started = list[ServerProcess]()

    def start(*options: object, **environment: str) -> ServerProcess:
        started.append(ServerProcess(tmp_path, phantom_checkpoint, *options, **environment))
        return started[-1]

    yield start
    for server in started:
        server.kill()


@pytest.fixture(scope="module")
def scan(phantom_store: Path) -> Path:
    """An image that the phantom study was prepared from."""
    return min((phantom_store.parent / "source" / "imagesTr").iterdir())


def test_a_server_gives_what_predict_writes_and_ends(
    serve: Callable[..., ServerProcess], run_job: Job, scan: Path, phantom_checkpoint: Path, tmp_path: Path
) -> None:
    server = serve()
    token = server.token_file.read_text().strip()
    assert server.token_file.stat().st_mode & 0o777 == 0o600
    assert server.hosts() <= {"127.0.0.1", "::1"}
    assert server.segment(scan, "another-token-of-a-user").status_code == 401
    answer = server.segment(scan, token)
    assert answer.status_code == 200, answer.text
    assert server.answer_to_the_page(scan, tmp_path) == answer.content
    job = (
        "--checkpoint",
        phantom_checkpoint,
        "--input",
        scan,
        "--output",
        tmp_path / "out",
        "--device",
        "cpu",
    )
    assert run_job("predict", *job).returncode == 0
    (written,) = (tmp_path / "out").glob("*_seg.nii.gz")
    expected, found = nibabel.load(written), nibabel.Nifti1Image.from_bytes(gzip.decompress(answer.content))
    assert np.array_equal(np.asarray(found.dataobj), np.asarray(expected.dataobj))
    assert np.array_equal(found.affine, expected.affine)
    environments = [Path(f"/proc/{pid}/environ").read_bytes() for pid in server.processes()]
    code, log = server.ends(signal.SIGTERM)
    assert (code, log[-1]) == (143, "interrupted"), log
    assert not any(token in line for line in log)
    assert not any(token.encode() in each for each in environments)


@pytest.mark.slow
def test_a_server_for_others_takes_requests_in_turn_and_ends_by_ctrl_c(
    serve: Callable[..., ServerProcess], scan: Path
) -> None:
    server = serve("--host", "0.0.0.0", "--max-upload", "1MiB", OSSNET_TOKEN=TOKEN)
    assert "0.0.0.0" in server.hosts()
    assert server.hosts() <= {"0.0.0.0", "127.0.0.1", "::1"}
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: server.segment(scan, TOKEN), range(4)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    large = scan.with_name("large.nii")
    nibabel.save(nibabel.Nifti1Image(np.zeros((99, 99, 99, 4), np.int16), np.eye(4)), large)
    assert server.segment(large, TOKEN).status_code == 413
    large.unlink()
    code, log = server.ends(signal.SIGINT)
    assert (code, log[-1]) == (130, "interrupted"), log


def test_a_mistake_is_one_line(run_job: Job, phantom_checkpoint: Path) -> None:
    done = run_job("serve", "--checkpoint", phantom_checkpoint, "--host", "0.0.0.0")
    assert done.returncode == 2
    assert done.stderr.startswith("error: host 0.0.0.0: expected 127.0.0.1, or a token of your own")
    assert len(done.stderr.splitlines()) == 1
