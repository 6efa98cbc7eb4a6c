"""The command `ossnet`: which job, and how its errors are printed."""

import io
import os
import select
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

# What is ours is imported inside the functions: a fault at its import is a fault of a job like any other.

JOBS = (
    *("prepare", "verify", "plan", "train", "tune", "evaluate", "predict", "serve"),
    *("report", "bench", "doctor"),
)
"""The jobs, in the order of a project; each is the module of its name in this package."""

HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"
"""By which torch asks Linux for huge pages, here and in processes started from here: predicting a large
volume on a CPU takes a fifth less time."""


def main() -> None:
    """Run the job that the command line names, or list the jobs."""
    word, *arguments = sys.argv[1:] or ["--help"]
    if word in ("-h", "--help", "--help-all", "--version"):
        with _silent_without_reader():
            print(f"ossnet {_version()}" if word == "--version" else _overview())
    elif word == "--completion":
        from ossnet.commands._parse.completion import completion_script

        with _silent_without_reader():
            print(completion_script())
    elif word in JOBS:
        run_job(word, arguments)
    else:
        from ossnet.config_tree import unknown_name

        print(f"error: {unknown_name('ossnet', 'job', word, JOBS)}", file=sys.stderr)
        sys.exit(2)


def run_job(name: str, arguments: Sequence[str] | None = None) -> None:
    """Run a job; a user's mistake becomes one line on the error stream and exit code 2, a fault of ours a
    traceback and exit code 3, as 1 is what verify found.

    Args:
        name: one of `JOBS`.
        arguments: its options; by default those of the process.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files may be bytes that are no text
            stream.reconfigure(errors="backslashreplace")
    try:
        _run(name, sys.argv[1:] if arguments is None else arguments)
    except Exception:
        traceback.print_exc()
        sys.exit(3)


def _run(name: str, arguments: Sequence[str]) -> None:
    from ossnet.errors import UserError
    from ossnet.output.atomic_write import disk_error, disk_fault
    from ossnet.output.interruption import exit_code, raise_on_signals
    from ossnet.output.logging import configure_logging

    os.environ.setdefault(HUGE_PAGES, "1")
    configure_logging()
    raise_on_signals()
    try:
        with _silent_without_reader():
            import_module(f"ossnet.commands.{name}").main(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as interruption:
        print("interrupted", file=sys.stderr)
        sys.exit(exit_code(interruption))
    except Exception as error:
        if not disk_fault(error):
            raise
        print(f"error: {disk_error(error)}", file=sys.stderr)
        sys.exit(2)


@contextmanager
def _silent_without_reader() -> Iterator[None]:
    """End in silence, as the shell's tools do, once whoever read the output has left, as `head` does.

    A pipe that breaks elsewhere, as that to another process, remains an error.
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        if not _reader_has_left(sys.stdout.fileno()):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at the end
        sys.exit(128 + signal.SIGPIPE)


def _reader_has_left(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _overview() -> str:
    from ossnet.commands._parse.help import format_rows

    texts = {name: str(import_module(f"ossnet.commands.{name}").__doc__) for name in JOBS}
    rows = format_rows((name, " ".join(text.split("\n\n")[0].split())) for name, text in texts.items())
    return (
        "usage: ossnet JOB [options]\n\n"
        "Finds, trains and ships the best 3-D segmentation network that fits a GPU memory budget.\n\n"
        f"jobs:\n{rows}\n\n"
        "Each job runs without options too, on a small phantom study that it makes itself.\n"
        "`ossnet JOB --help` shows its options, `ossnet --version` the version, and\n"
        "`ossnet --completion` prints a script that completes the command line in bash and zsh."
    )


def _version() -> str:
    try:
        return version("ossnet")
    except PackageNotFoundError:  # run from a clone that is not installed
        return "(not installed)"
