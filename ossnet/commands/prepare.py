"""Prepare a folder of scans into a store."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from tyro.constructors import PrimitiveConstructorSpec

from ossnet.commands._output import command_line, finish, finish_json
from ossnet.commands._parse import Command, extract
from ossnet.data.imaging.geometry import Spacing
from ossnet.data.prepare.config import PrepareConfig, parse_spacing

_SPACING = PrimitiveConstructorSpec[Spacing | None](
    nargs="*",
    metavar="FLOAT FLOAT FLOAT",
    instance_from_str=parse_spacing,
    is_instance=lambda value: value is None or isinstance(value, tuple),
    str_from_instance=lambda value: [] if value is None else [str(size) for size in value],
)


@dataclass(frozen=True)
class PrepareOptions(PrepareConfig):
    """Options of this job."""

    spacing: Annotated[Spacing | None, _SPACING] = None
    json: bool = False
    """Print the result as JSON, last and alone."""


COMMAND = Command("prepare", str(__doc__), PrepareOptions)


def main(arguments: Sequence[str]) -> None:
    """Prepare, and print what the store holds and how to train on it."""
    options = COMMAND.parse(arguments)
    from ossnet.data.layouts import check_layout
    from ossnet.distributed.cluster.device import training_device
    from ossnet.distributed.data.prepare import phantom_study, prepare
    from ossnet.planning.configure.recipe import suggested_network

    check_layout(options.layout)  # before a phantom is made
    source, output = phantom_study(options.source, options.output)
    report = prepare(replace(extract(PrepareConfig, options), source=source, output=output))
    for reason in report.excluded.values():
        print(f"excluded: {reason}", file=sys.stderr)
    if options.json:
        finish_json({**report.to_dict(), "output": report.output})
        return
    splits = ", ".join(f"{count} {name}" for name, count in report.splits.items())
    follow_up = ["--data", report.output, "--model", suggested_network(training_device())]
    finish(
        {
            "store": report.output,
            "cases": f"{report.cases} ({splits})",
            "excluded": len(report.excluded),
            "made now": f"{report.prepared} in {report.seconds:.1f} s ({report.megabytes_per_s:.1f} MB/s)",
        },
        follow_up=command_line("train", *follow_up, "--output", "runs/train"),
    )
