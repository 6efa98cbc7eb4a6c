"""What an interrupted job says: the command to go on with."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from ossnet.commands._output import command_line
from ossnet.output.interruption import exit_code
from ossnet.output.remote.copies import location_of


@contextmanager
def resumable(job: str, arguments: Sequence[str], output: Path, *, state: str) -> Iterator[None]:
    """Say how to go on with a job that Ctrl-C or SIGTERM ends in the block, and exit as a shell expects.

    Args:
        arguments: those of the job.
        output: its folder.
        state: the file in it that `--resume` needs; without it the job begins anew. `--resume auto` stays.
    """
    try:
        yield
    except KeyboardInterrupt as interruption:
        auto = "--resume=auto" in arguments or ("--resume", "auto") in pairwise(arguments)
        again = [each for each in arguments if auto or each != "--resume"]
        if not any(each.split("=")[0] == "--output" for each in again):
            again += ["--output", location_of(output)]
        if not auto and (output / state).exists():
            again.append("--resume")
        print(f"interrupted; go on with: {command_line(job, *again)}", file=sys.stderr)
        sys.exit(exit_code(interruption))
