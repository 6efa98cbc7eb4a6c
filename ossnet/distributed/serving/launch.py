"""Starting the server: Ray Serve with one process that predicts, on this machine alone."""

import logging
import os
import shlex
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from ossnet.data.layouts.modalities import channel_names
from ossnet.distributed._ray import open_no_replica_port
from ossnet.distributed.cluster.connection import connect
from ossnet.distributed.cluster.nodes import nodes
from ossnet.distributed.cluster.resources import plan_run
from ossnet.distributed.serving.bearer import VARIABLE, digest, given_token, new_token
from ossnet.errors import UserError
from ossnet.inference.batch.runner import PredictionJob
from ossnet.output.progress import progress

if TYPE_CHECKING:
    from fastapi import FastAPI

    from ossnet.data import Task

_PACKAGES = {
    "fastapi": "fastapi",
    "uvicorn": "uvicorn",
    "python_multipart": "python-multipart",
    "grpc_reflection": "grpcio-reflection",
}
"""What Ray Serve and the application import, and what it is called where packages are installed from."""
_NAME = "ossnet"
_LAST_PORT = 65535
_WAITING = 8
"""Requests that may wait for the one that is predicted, their scans on disk; then as many without."""


@dataclass(frozen=True)
class ServerSpec:
    """What is served, and where."""

    job: PredictionJob
    """The checkpoints, with absolute paths, and how they predict; its output is a folder for requests."""
    host: str
    port: int
    max_upload: int
    """Bytes of a scan, as it is sent and unpacked."""


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    url: str
    network: str
    modalities: tuple[str, ...]
    """The fields in which it takes files."""
    classes: tuple[str, ...]
    token_file: Path | None
    """The file with the token; None where it came by the environment."""

    @property
    def example(self) -> str:
        """A command that segments a scan."""
        fields = " ".join(f"-F {shlex.quote(f'{name}=@{name}.nii.gz')}" for name in self.modalities)
        token = f"${VARIABLE}" if self.token_file is None else f"$(cat {shlex.quote(str(self.token_file))})"
        return f'curl -H "Authorization: Bearer {token}" {fields} -o labels.nii.gz {self.url}/segment'


def check_installed() -> None:
    """Reject an environment without the packages that serving needs.

    Raises:
        UserError: names the first one that is missing.
    """
    missing = [name for module, name in _PACKAGES.items() if find_spec(module) is None]
    if missing:
        expected, found = f"the packages {', '.join(_PACKAGES.values())}", f"no {missing[0]}"
        raise UserError("serve", expected=expected, found=found, remedy='pip install "ossnet[serve]"')


@contextmanager
def serving(spec: ServerSpec, token_file: Path | None) -> Iterator[Server]:
    """Serve as long as the block runs.

    Raises:
        UserError: the checkpoints cannot be read, the address cannot be listened at or is not this machine's
            own and no token was given, or there is a cluster that would be joined.
    """
    token = given_token(token_file)
    _check_host(spec.host, given=token is not None)
    _check_alone()
    _check_port(spec.host, spec.port)
    network, task = _check_job(spec.job)
    with ExitStack() as stack:
        if token is None:
            token, token_file = stack.enter_context(new_token(spec.port))
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="ossnet-serve-"))
        stack.enter_context(connect())
        with progress("starting the server"):
            _start(replace(spec, job=replace(spec.job, output=Path(scratch))), digest(token))
        host = f"[{spec.host}]" if ":" in spec.host else spec.host
        yield Server(
            url=f"http://{host}:{spec.port}",
            network=network,
            modalities=channel_names(task.modalities),
            classes=task.class_names,
            token_file=token_file,
        )


class _Replica:
    """The process that predicts, and answers what Ray's proxy hands on."""

    def __init__(self, spec: ServerSpec, token_digest: bytes) -> None:
        from ossnet.distributed.serving.app import make_app
        from ossnet.distributed.serving.segmenter import Segmenter

        open_no_replica_port()
        segmenter = Segmenter(spec.job, spec.job.output, limit=spec.max_upload)
        self._made = make_app(segmenter, token_digest=token_digest, max_upload=spec.max_upload)

    def __serve_build_asgi_app__(self) -> "FastAPI":
        """The application, as Ray Serve asks for it."""
        return self._made


def _start(spec: ServerSpec, token_digest: bytes) -> None:
    from ray import serve
    from ray.serve.config import HTTPOptions
    from ray.serve.schema import LoggingConfig

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    resources = plan_run(nodes(), 1)
    quiet = LoggingConfig(log_level="WARNING", enable_access_log=False)
    deployment = serve.deployment(
        serve.ingress()(_Replica),
        name=_NAME,
        max_ongoing_requests=_WAITING,
        max_queued_requests=_WAITING,
        max_constructor_retry_count=1,
        ray_actor_options={"num_cpus": resources.cpus, "num_gpus": resources.gpus},
        logging_config=quiet,
    )
    options = HTTPOptions(host=spec.host, port=spec.port)
    serve.start(proxy_location="HeadOnly", http_options=options, logging_config=quiet)
    serve.run(deployment.bind(spec, token_digest), name=_NAME, route_prefix="/")


def _check_job(job: PredictionJob) -> "tuple[str, Task]":
    """The name of the network and its task; what is wrong with the checkpoints is said before Ray starts."""
    import torch

    device, available = job.config.device, torch.cuda.is_available()
    if device not in (None, "cpu") and (device != "cuda" or not available):
        raise UserError(
            f"device {device!r}",
            expected="cpu, or cuda where there is a GPU",
            found=f"{torch.cuda.device_count()} CUDA devices",
            remedy="choose one of several by CUDA_VISIBLE_DEVICES" if available else None,
        )
    predictor = replace(job, config=replace(job.config, device="cpu")).predictor()
    return predictor.name, predictor.task


def _check_host(host: str, *, given: bool) -> None:
    if not (given or _is_loopback(host)):
        raise UserError(
            f"host {host}",
            expected="127.0.0.1, or a token of your own where others reach the server",
            found="no token",
            remedy=f"set {VARIABLE} or give --token-file",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_alone() -> None:
    address = os.environ.get("RAY_ADDRESS")
    if address:
        expected, found = "no cluster, as the server runs on this machine alone", address
        raise UserError("RAY_ADDRESS", expected=expected, found=found, remedy="unset it")


def _check_port(host: str, port: int) -> None:
    if not 1 <= port <= _LAST_PORT:
        raise UserError("port", expected=f"a number from 1 to {_LAST_PORT}", found=str(port))
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one that closes is no other server
        try:
            listener.bind((host, port))
        except OSError as error:
            where, expected = f"{host}:{port}", "a free address of this machine"
            raise UserError(
                where, expected=expected, found=error.strerror, remedy="give another --port or --host"
            ) from error
