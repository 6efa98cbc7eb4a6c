"""Prepare a folder of scans into a store."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, cast

from ossnet.commands._output import command_line, finish, finish_json
from ossnet.commands._parse import Command
from ossnet.data.imaging.geometry import Spacing
from ossnet.data.prepare.config import PrepareConfig, parse_spacing
from ossnet.errors import UserError

if TYPE_CHECKING:
    from tyro.constructors import ConstructorRegistry


@dataclass(frozen=True)
class PrepareOptions(PrepareConfig):
    """Options of this job."""

    json: bool = False
    """Print the result as JSON, last and alone."""


COMMAND = Command("prepare", str(__doc__), PrepareOptions)


def main(arguments: Sequence[str]) -> None:
    """Prepare, and print what the store holds and how to train on it."""
    with _comma_separated_spacing():
        options = COMMAND.parse(arguments)
    from ossnet.data.layouts import check_layout
    from ossnet.distributed.data.prepare import phantom_study, prepare

    check_layout(options.layout)  # before a phantom is made
    source, output = phantom_study(options.source, options.output)
    values = {field.name: getattr(options, field.name) for field in fields(PrepareConfig)}
    report = prepare(PrepareConfig(**values | {"source": source, "output": output}))
    for reason in report.excluded.values():
        print(f"excluded: {reason}", file=sys.stderr)
    if options.json:
        finish_json(report.to_dict())
        return
    splits = ", ".join(f"{count} {name}" for name, count in report.splits.items())
    finish(
        {
            "store": report.output,
            "cases": f"{report.cases} ({splits})",
            "excluded": len(report.excluded),
            "made now": f"{report.prepared} in {report.seconds:.1f} s ({report.megabytes_per_s:.1f} MB/s)",
        },
        follow_up=command_line(
            "train", "--data", report.output, "--model", "oss-net-c", "--output", "runs/train"
        ),
    )


def _comma_separated_spacing() -> "ConstructorRegistry":
    """Within it, tyro reads a spacing as `1,1,1` too."""
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

    registry, spacing = ConstructorRegistry(), cast("Any", Spacing | None)

    @registry.primitive_rule
    def rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
        if info.type != spacing:
            return None
        return PrimitiveConstructorSpec(
            nargs="*",
            metavar="MM",
            instance_from_str=_parse_spacing,
            is_instance=lambda value: value is None or isinstance(value, tuple),
            str_from_instance=lambda value: [] if value is None else list(map(str, value)),
        )

    return registry


def _parse_spacing(values: list[str]) -> Spacing | None:
    try:
        return parse_spacing(values)
    except UserError as error:  # tyro shows the first argument of a ValueError
        msg = f"expected {error.expected}, found {error.found}"
        raise ValueError(msg) from error
