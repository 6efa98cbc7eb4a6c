"""Faults of what a study writes to: databases that are locked, MLflow's server and S3 away or slow."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

from chaos_study import SmallStudy
from fault import KILLED, Fault, Step
from node_cluster import free_port
from s3_server import s3_server
from tcp_proxy import tcp_proxy


def _lock(database: Callable[[SmallStudy], Path]) -> Step:
    """Keep a database from all others for a while."""

    def lock(study: SmallStudy, chance: Random) -> None:
        connection = sqlite3.connect(database(study), timeout=30, isolation_level=None)
        with closing(connection):
            connection.execute("BEGIN EXCLUSIVE")
            time.sleep(chance.uniform(40, 60))
            connection.execute("ROLLBACK")

    return lock


@contextmanager
def mlflow_server(folder: Path, port: int = 0) -> Iterator[int]:
    """An MLflow server while the block runs, killed at its end; its port, any by default, once it answers."""
    port = port or free_port()
    stores = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    stores += ["--artifacts-destination", f"{folder}/files"]
    command = [sys.executable, "-m", "mlflow", "server", *stores, "--port", str(port), "--workers", "1"]
    with (folder / "server.txt").open("ab") as log:
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    try:
        while not _answers(port):
            assert server.poll() is None, (folder / "server.txt").read_text()
            time.sleep(0.5)
        yield port
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
    except OSError:
        return False
    return True


@contextmanager
def _mlflow(study: SmallStudy) -> Iterator[None]:
    with mlflow_server(study.folder) as port, tcp_proxy(port) as way:
        study.ways["mlflow"] = way
        study.environment["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{way.port}"
        yield


@contextmanager
def _s3(study: SmallStudy) -> Iterator[None]:
    with s3_server(study.folder) as server, tcp_proxy(server.port) as way:
        study.ways["s3"] = way
        study.environment |= replace(server, port=way.port).environment
        study.environment["XDG_CACHE_HOME"] = str(study.folder / "cache")
        study.output = f"s3://{server.bucket}/runs/study"
        yield


def _stopped(service: str) -> Step:
    def stop(study: SmallStudy, chance: Random) -> None:
        study.ways[service].pause()
        time.sleep(chance.uniform(20, 25))
        study.ways[service].resume()

    return stop


def _cut(service: str) -> Step:
    def cut(study: SmallStudy, chance: Random) -> None:
        study.ways[service].cut()
        time.sleep(chance.uniform(20, 25))
        study.ways[service].restore()

    return cut


def _slow(service: str) -> Step:
    def slow(study: SmallStudy, chance: Random) -> None:
        study.ways[service].delay_s = chance.uniform(0.02, 0.1)

    return slow


def _kill_driver(study: SmallStudy, chance: Random) -> None:
    study.running.process.kill()


def _lose_disk(study: SmallStudy, chance: Random) -> None:
    shutil.rmtree(study.path)


RUNS_LOCKED = Fault("mlflow.db locked for 50 s", during=_lock(lambda study: study.folder / "mlflow.db"))
MLFLOW_HANGS = Fault("MLflow's server hangs for 20 s", _mlflow, during=_stopped("mlflow"))
S3_HANGS = Fault("S3, the output, hangs for 20 s", _s3, during=_stopped("s3"))
SERVICE_FAULTS = (
    RUNS_LOCKED,
    Fault("study.db locked for 50 s", during=_lock(lambda study: study.database)),
    MLFLOW_HANGS,
    Fault("the network to MLflow's server cut for 20 s", _mlflow, during=_cut("mlflow")),
    Fault("MLflow's server slow", _mlflow, before=_slow("mlflow")),
    S3_HANGS,
    Fault("the network to S3 cut for 20 s", _s3, during=_cut("s3")),
    Fault("S3 slow", _s3, before=_slow("s3")),
    Fault(
        "SIGKILL of the driver, and its disk lost; the output in S3",
        _s3,
        during=_kill_driver,
        between=_lose_disk,
        exits=KILLED,
        says="its copy of",
    ),
)
