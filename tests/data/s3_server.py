"""S3 on loopback, as moto serves it, which counts how often each object is opened."""

import re
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_START_S = 60


@dataclass(frozen=True)
class S3Server:
    """A running server with one bucket."""

    port: int
    log: Path
    host: str = "127.0.0.1"
    bucket: str = "bucket"

    @property
    def environment(self) -> dict[str, str]:
        """What makes clients go to it."""
        return {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL": f"http://{self.host}:{self.port}",
        }

    @property
    def opened(self) -> Counter[str]:
        """How often each object was opened: pyarrow asks for its size once each time."""
        return Counter(re.findall(rf'"HEAD /{self.bucket}/(\S+) HTTP', self.log.read_text()))

    def upload(self, folder: Path, prefix: str) -> None:
        """Put all files of a folder below a prefix."""
        for path in folder.rglob("*"):
            if path.is_file():
                key = f"{prefix}/{path.relative_to(folder).as_posix()}"
                self.client().put_object(Bucket=self.bucket, Key=key, Body=path.read_bytes())

    def names(self, prefix: str) -> set[str]:
        """The names of the objects below a prefix that ends in a slash."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        keys = {each["Key"] for page in pages for each in page.get("Contents", [])}
        return {key.removeprefix(prefix) for key in keys if not key.endswith("/")}

    def delete(self, key: str) -> None:
        """Remove an object."""
        self.client().delete_object(Bucket=self.bucket, Key=key)

    def client(self) -> Any:
        """A client of boto3."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=f"http://{self.host}:{self.port}",
            aws_access_key_id="key",
            aws_secret_access_key="secret",
            region_name="us-east-1",
        )


@contextmanager
def s3_server(folder: Path, host: str = "127.0.0.1") -> Iterator[S3Server]:
    """A server while the block runs; skips where moto is not installed."""
    pytest.importorskip("moto")
    with socket.socket() as free:
        free.bind((host, 0))
        port = free.getsockname()[1]
    server = S3Server(port, folder / "s3.log", host)
    with server.log.open("w") as log:
        command = [sys.executable, "-m", "moto.server", "-H", host, "-p", str(port)]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _wait_for(host, port)
        server.client().create_bucket(Bucket=server.bucket)
        yield server
    finally:
        process.terminate()
        process.wait()


def _wait_for(host: str, port: int) -> None:
    until = time.monotonic() + _START_S
    while True:
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            return
