"""Progress of a job on the error stream; the output stream is left to its result."""

import logging
import sys

from ossnet.errors import printable


class _ErrorStream(logging.Handler):
    """Plain lines on what is the error stream now: a bar on a terminal takes its place while it is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(printable(self.format(record)), file=sys.stderr, flush=True)
        except Exception:
            self.handleError(record)


def configure_logging() -> None:
    """Let the package's loggers print their messages as plain lines, at once, on the error stream."""
    logger = logging.getLogger("ossnet")
    if logger.handlers:
        return
    handler = _ErrorStream()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
