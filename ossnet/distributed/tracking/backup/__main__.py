"""The backup of MLflow's file, on the head of a cluster (cluster/mlflow.sh).

`python -m ossnet.distributed.tracking.backup restore FILE URL` before anything uses the file, and then, as
long as the machine runs, the same with `keep`.
"""

import argparse
import logging
import signal
import sys
import threading
from pathlib import Path

from ossnet.distributed._sqlite import sqlite_url
from ossnet.distributed.tracking.backup.database import Backup, keep, sole_keeper
from ossnet.distributed.tracking.store import open_client
from ossnet.errors import UserError
from ossnet.output.logging import configure_logging
from ossnet.output.remote.folder import RemoteFolder

logger = logging.getLogger("ossnet.distributed.tracking.backup")


def _restore(backup: Backup) -> None:
    if backup.restore():
        logger.info(f"{backup.file} is restored from {backup.url}")
    open_client(sqlite_url(backup.file), write=True)  # which makes it where there was none
    backup.update()  # and shows at once whether that can be done


def _keep(backup: Backup) -> None:
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with sole_keeper(backup.file):
        keep(backup, ended)


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ossnet.distributed.tracking.backup")
    parser.add_argument("what", choices=("restore", "keep"))
    parser.add_argument("file", type=Path, help="MLflow's SQLite file")
    parser.add_argument("url", help="a folder of object storage")
    given = parser.parse_args()
    configure_logging()
    backup = Backup(given.file.absolute(), RemoteFolder.at(given.url.rstrip("/")))
    (_restore if given.what == "restore" else _keep)(backup)


if __name__ == "__main__":
    try:
        _main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
