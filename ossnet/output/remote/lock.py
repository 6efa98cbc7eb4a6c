"""One job at a time writes to a folder of object storage, which can neither lock nor rename.

Each job that wants the folder puts an entry with its process, waits until all that were put in the same
moment can be seen, and looks at all: the earliest by the storage's clock has the folder. Another object is
its heartbeat.
"""

import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict

from ossnet.output import writer_lock
from ossnet.output.remote.folder import RemoteFile, RemoteFolder
from ossnet.output.writer_lock import Writer, end_this_job, in_use, is_dead, until_free

logger = logging.getLogger(__name__)

LOCKS = ".ossnet-lock"
"""The folder of the entries."""
_ENTRY, _BEAT = ".json", ".beat"
_SETTLE_S = 2.0  # some storages' clocks have seconds


@contextmanager
def object_lock(folder: RemoteFolder, job: str, *, wait_at_most_s: float = 0.0) -> Iterator[None]:
    """Keep other jobs out of a remote folder inside the block.

    A lock is taken over, with a line, when its process is gone: at once where that can be seen, else after
    three minutes without a heartbeat.

    Args:
        wait_at_most_s: seconds to wait for another job to end.

    Raises:
        UserError: another job is writing to it.
        OSError: the storage cannot be used.
    """
    mine, holders = Writer.this_process(job), list[Writer | None]([None])
    for _ in until_free(folder.url, wait_at_most_s, lambda: holders[-1]):
        holders.append(_take(folder, mine))
        if holders[-1] == mine:
            break
    else:
        raise in_use(folder.url, job, holders[-1])
    ended = threading.Event()
    thread = threading.Thread(target=_beat, args=(folder, mine, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        _remove(folder, mine.token)


def _take(folder: RemoteFolder, mine: Writer) -> Writer | None:
    """Try to become the one that has the folder; the one that has it then, None where its entry is cut."""
    folder.write(_name(mine.token, _BEAT), b"")
    folder.write(_name(mine.token, _ENTRY), json.dumps(asdict(mine)).encode())
    time.sleep(_SETTLE_S)
    files = {file.name.rpartition("/")[2]: file for file in folder.files(LOCKS)}
    own = files[mine.token + _ENTRY]
    for name in sorted(files):
        token = name.removesuffix(_ENTRY)
        if not name.endswith(_ENTRY) or token == mine.token:
            continue
        with suppress(FileNotFoundError):  # it went meanwhile
            other = Writer.parse(folder.read(f"{LOCKS}/{name}"))
            heard = max(files[each].changed_ms for each in (name, token + _BEAT) if each in files)
            if is_dead(other, (own.changed_ms - heard) / 1000, folder.url):
                _remove(folder, token)
            elif _order(files[name]) < _order(own):
                _remove(folder, mine.token)
                return other
    return mine


def _order(entry: RemoteFile) -> tuple[int, str]:
    return entry.changed_ms, entry.name


def _beat(folder: RemoteFolder, mine: Writer, ended: threading.Event) -> None:
    """Renew the heartbeat until the job ends; where another job has taken the folder over, end this one."""
    while not ended.wait(writer_lock.BEAT_S):
        try:
            if folder.file(_name(mine.token, _ENTRY)) is None:
                end_this_job(folder.url, "another job")
                return
            folder.write(_name(mine.token, _BEAT), b"")
        except OSError as error:  # as where the storage is away for a while
            logger.debug(f"{folder.url}: {error}")


def _remove(folder: RemoteFolder, token: str) -> None:
    with suppress(OSError):
        for end in (_ENTRY, _BEAT):
            folder.delete(_name(token, end))


def _name(token: str, end: str) -> str:
    return f"{LOCKS}/{token}{end}"
