"""Prepare a folder of scans into a store."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ossnet.commands._output import command_line, finish, finish_json
from ossnet.commands._parse import Command

if TYPE_CHECKING:
    from ossnet.data import PrepareConfig


@dataclass(frozen=True)
class PrepareOptions:
    """Options of this job."""

    source: Path | None = None
    """Folder of scans, or a CSV table of them; by default a phantom study."""
    output: Path | None = None
    """Folder of the store: made, completed or, where its inputs changed, renewed."""
    layout: str = "auto"
    """How the source is laid out: auto (recognized), msd, brats, lits, nnunet, csv, or the name of an
    installed layout."""
    spacing: tuple[str, ...] = ()
    """Voxel size in mm along R, A and S to resample to, as 1,1,1 or 1 1 1; by default each scan's own."""
    interpolation: Literal["cubic", "linear"] = "cubic"
    """How images are resampled; labels are interpolated class by class."""
    crop: float | None = None
    """Cut each scan to the box of its foreground and so many mm around it."""
    normalization: tuple[Literal["auto", "zscore", "zscore-foreground", "ct"], ...] = ("auto",)
    """One for all, or one a modality; auto: ct for CT, else zscore-foreground; zscore is the paper's."""
    storage: Literal["float16", "int16"] = "float16"
    """Of images; a case that float16 would be too coarse for is stored as int16."""
    target: Literal["labels", "foreground", "whole-tumour", "liver", "brats-regions", "liver-and-tumour"] = (
        "labels"
    )
    """What to learn: every label as a class; all of them as one (foreground; the paper's binary tasks are
    whole-tumour and liver); WT, TC and ET (brats-regions); or the liver with its tumours and the tumours."""
    regions: tuple[str, ...] = ()
    """What to learn instead: named sets of labels, by name or value, that may overlap: core=1,4 all=1,2,4"""
    labels: tuple[str, ...] = ()
    """Changes to the labels: renamed (core=1), merged (tumour=1,2,4), odd values (background=0,255)."""
    validation_fraction: float = 0.2
    """Share of the cases for validation, where there are no folds; the cases of a patient stay together."""
    test_fraction: float = 0.0
    """Share of the cases kept for the end."""
    folds: int | None = None
    """Parts of the other cases, of which --training.fold (from 0) chooses the one that validates."""
    splits: Path | None = None
    """JSON object or CSV table (case, split) that names each case's split, instead of shares or folds."""
    seed: int = 0
    """Of the splits."""
    strict: bool = False
    """Fail where a case cannot be used, instead of excluding it."""
    json: bool = False
    """Print the result as JSON, last and alone."""


COMMAND = Command("prepare", str(__doc__), PrepareOptions)


def main(arguments: Sequence[str]) -> None:
    """Prepare, and print what the store holds and how to train on it."""
    options = COMMAND.parse(arguments)
    from ossnet.distributed.data.prepare import phantom_study, prepare

    source, output = phantom_study(options.source, options.output)
    report = prepare(_config(options, source, output))
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


def _config(options: PrepareOptions, source: Path, output: Path) -> "PrepareConfig":
    from ossnet.data.prepare.config import PrepareConfig, parse_spacing

    values = {field.name: getattr(options, field.name) for field in fields(PrepareConfig)}
    spacing = parse_spacing(options.spacing)
    return PrepareConfig(**values | {"source": source, "output": output, "spacing": spacing})
