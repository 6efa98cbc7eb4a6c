"""Tell what is wrong with a folder of scans or a store: a table here, and a page with a picture a case.

Exit code 0: nothing found. 1: warnings only; preparing uses such cases as they are. 2: errors; preparing sets
such cases aside. A mistake in the options is 2 too.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ossnet import cli
from ossnet.errors import UserError


@dataclass(frozen=True)
class Verify:
    """Options of this job."""

    source: Path | None = None
    """Folder of scans, or a CSV table of them; by default a phantom study."""
    data: Path | None = None
    """Store that jobs/prepare.py wrote, instead of a source."""
    layout: Literal["auto", "msd", "brats", "lits", "nnunet", "csv"] = "auto"
    """How the source is laid out; by default recognized."""
    output: Path | None = None
    """Folder for verification.html; by default runs/verify-DATE-TIME."""
    json: bool = False
    """Print the result for machines, last and alone."""


def main() -> None:
    """Run the job."""
    options = cli.parse(Verify, description=str(__doc__))
    from ossnet.data import verify, verify_store
    from ossnet.data.verification.formatting import summary
    from ossnet.data.verification.html_report import write_page
    from ossnet.data.verification.table import show

    if options.source is not None and options.data is not None:
        msg = "--source and --data: expected one of them, found both; leave one out"
        raise UserError(msg)
    if options.data is not None:
        found, follow_up = verify_store(options.data), f"python jobs/train.py --data {options.data}"
    else:
        source = options.source or _phantom()
        found = verify(source, options.layout)
        follow_up = f"python jobs/prepare.py --source {source} --output runs/store"
    if not options.json:
        show(found)  # before anything can go wrong with the page
    page = write_page(found, (options.output or cli.new_folder("verify")) / "verification.html")
    if options.json:
        cli.finish_json({**found.to_dict(), "page": page})
    else:
        cli.finish(made={**summary(found), "page": page}, follow_up=follow_up)
    sys.exit(found.exit_code)


def _phantom() -> Path:
    from ossnet.distributed.data.prepare import phantom_study  # needs Ray, which verifying does not

    return phantom_study(None, None)[0]


if __name__ == "__main__":
    cli.run(main)
