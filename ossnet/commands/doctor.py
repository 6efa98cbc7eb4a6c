"""Check the cluster, or this machine, before jobs run: versions, GPUs, storage, MLflow, token, network.

Exit code 0: no errors, warnings maybe. 1: errors, each with its remedy.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ossnet.commands._output import finish_json
from ossnet.commands._parse import Command


@dataclass(frozen=True)
class DoctorOptions:
    """Options of this job."""

    output: Path = Path("runs")
    """A folder or URL that jobs will write to: all nodes have to reach it."""
    json: bool = False
    """Print the result as JSON, last and alone."""


COMMAND = Command("doctor", str(__doc__), DoctorOptions)


def main(arguments: Sequence[str]) -> None:
    """Check, and print a line for each check."""
    options = COMMAND.parse(arguments)
    from ossnet.config_tree import to_dict
    from ossnet.distributed.cluster.connection import output_root
    from ossnet.distributed.doctor import examine
    from ossnet.distributed.tracking.store import TrackingConfig
    from ossnet.errors import printable

    found = examine(options.output, TrackingConfig.at(output_root(), "doctor"))
    errors = sum(each.level == "error" for each in found)
    if options.json:
        finish_json({"errors": errors, "checks": to_dict(found)})
    else:
        for each in found:
            print(printable(str(each)))
    if errors:
        sys.exit(1)
