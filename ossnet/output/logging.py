"""Progress of a job on the error stream; the output stream is left to its result."""

import logging
import sys

from ossnet.errors import printable


class _Printable(logging.Formatter):
    """Plain lines."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def configure_logging() -> None:
    """Let the package's loggers print their messages as plain lines, at once, on the error stream."""
    logger = logging.getLogger("ossnet")
    if logger.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Printable("%(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
