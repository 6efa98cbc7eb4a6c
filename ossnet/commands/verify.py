"""Check a folder of scans or a store: a table of what is wrong, and a page with a picture of each case.

Exit code 0: nothing found, or notes. 1: warnings; `prepare` uses such cases as they are. 2: errors; `prepare`
excludes such cases. A mistake in the options is 2 too. 3: the check itself broke off.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ossnet.commands._output import command_line, finish, finish_json, new_folder
from ossnet.commands._parse import Command
from ossnet.errors import UserError


@dataclass(frozen=True)
class VerifyOptions:
    """Options of this job."""

    source: Path | None = None
    """Folder of scans, or a CSV table of them; by default a phantom study."""
    data: Path | None = None
    """Store that `prepare` wrote, instead of a source."""
    layout: str = "auto"
    """How the source is laid out: auto, msd, brats, lits, nnunet, csv, bids, folders, or the name of an
    installed layout."""
    allow_outside: bool = False
    """Read files outside the source, too, that a table or links name."""
    output: Path | None = None
    """Folder for verification.html; by default runs/verify-DATE-TIME."""
    json: bool = False
    """Print the result as JSON, last and alone."""


COMMAND = Command("verify", str(__doc__), VerifyOptions)


def main(arguments: Sequence[str]) -> None:
    """Check, print a table, write the page; the exit code says what was found."""
    options = COMMAND.parse(arguments)
    from ossnet.data import verify, verify_store
    from ossnet.data.layouts import check_layout
    from ossnet.data.verification.formatting import summary
    from ossnet.data.verification.html_report import write_page
    from ossnet.data.verification.table import show
    from ossnet.output.claim import claimed_output

    check_layout(options.layout)  # before a phantom is made
    if options.source is not None and options.data is not None:
        raise UserError("--source and --data", expected="one of them", found="both", remedy="leave one out")
    output = options.output or new_folder("verify")
    sources = [path for path in (options.source, options.data) if path is not None]
    with claimed_output(output, "verify", sources=sources):
        if options.data is not None:
            found, follow_up = verify_store(options.data), command_line("train", "--data", options.data)
        else:
            source = options.source or _phantom()
            found = verify(source, options.layout, allow_outside=options.allow_outside)
            outside = ["--allow-outside"] * options.allow_outside
            follow_up = command_line("prepare", "--source", source, *outside, "--output", "runs/store")
        if not options.json:
            show(found)  # before anything can go wrong with the page
        page = write_page(found, output / "verification.html")
    if options.json:
        finish_json({**found.to_dict(), "page": page})
    else:
        finish({**summary(found), "page": page}, follow_up=follow_up)
    sys.exit(found.exit_code)


def _phantom() -> Path:
    from ossnet.distributed.data.prepare import phantom_study  # needs Ray, which verifying does not

    return phantom_study(None, None)[0]
