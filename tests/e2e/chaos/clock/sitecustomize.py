"""Imported by every Python process that has this folder on its path: its clock is off by a file's seconds."""

import os
import time
from pathlib import Path

_FILE = Path(os.environ["CHAOS_CLOCK"])
_time_ns = time.time_ns


def _offset_ns() -> int:
    try:
        return int(_FILE.read_text() or 0) * 10**9
    except OSError:
        return 0


time.time_ns = lambda: _time_ns() + _offset_ns()
time.time = lambda: time.time_ns() / 1e9
