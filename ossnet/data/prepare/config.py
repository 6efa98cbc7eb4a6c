"""The options of preparing, once for Python and the command line, and the task that they make of a source."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ossnet.data.imaging.geometry import Spacing
from ossnet.data.imaging.normalization import default_normalization
from ossnet.data.labels.presets import Preset, choose_regions
from ossnet.data.labels.task import Interpolation, Normalization, Task
from ossnet.data.layouts import Source
from ossnet.data.layouts.modalities import base_name
from ossnet.data.store.quantization import Storage
from ossnet.data.store.splits import make_splits
from ossnet.errors import UserError

NormalizationChoice = Literal["auto", "zscore", "zscore-foreground", "ct", "none"]
"""A `Normalization`, or `auto`: what the modality's name suggests."""


@dataclass(frozen=True)
class PrepareConfig:
    """Options to prepare a store from a folder of scans; the docstrings are the help of the command line."""

    source: Path | None = None
    """Folder of scans, or a CSV table of them; a folder also on object storage (s3://...). By default a
    phantom study."""
    output: Path | None = None
    """Folder of the store: made, completed or, where its inputs changed, renewed."""
    layout: str = "auto"
    """How the source is laid out: auto, msd, brats, lits, nnunet, csv, bids, folders, or the name of an
    installed layout."""
    spacing: Spacing | None = None
    """Voxel size in mm along R, A and S to resample to, as 1,1,1 or 1 1 1; by default each scan's own."""
    interpolation: Interpolation = "cubic"
    """How images are resampled; labels are interpolated class by class."""
    crop: float | None = None
    """Cut each scan to the box of its foreground and a margin of this many mm; by default nothing is cut."""
    normalization: tuple[NormalizationChoice, ...] = ("auto",)
    """One for all, or one a modality; auto: ct for CT, none for noNorm, else zscore-foreground; zscore is the
    paper's."""
    storage: Storage = "float16"
    """Number format of stored images; a case that float16 would be too coarse for is stored as int16."""
    target: Preset = "labels"
    """What to learn: every label as a class; all of them as one (foreground; the paper's binary tasks are
    whole-tumour and liver); WT, TC and ET (brats-regions); or the liver with its tumours and the tumours."""
    regions: tuple[str, ...] = ()
    """What to learn instead: named sets of labels, by name or value, that may overlap: core=1,4 all=1,2,4"""
    labels: tuple[str, ...] = ()
    """Changes to the labels: renamed (core=1), merged (tumour=1,2,4), odd values (background=0,255)."""
    validation_fraction: float = 0.2
    """Fraction of the cases for validation, where there are no folds; a patient's cases stay together."""
    test_fraction: float = 0.0
    """Fraction of the cases kept for the end."""
    folds: int | None = None
    """Number of parts of the other cases; --training.fold (from 0) chooses the one that validates."""
    splits: Path | None = None
    """JSON object or CSV table (case, split) that names each case's split, instead of fractions or folds."""
    seed: int = 0
    """Seed of the splits."""
    allow_outside: bool = False
    """Read files outside the source, too, that a table or links name."""
    strict: bool = False
    """Fail where a case cannot be used, instead of excluding it."""


def parse_spacing(values: Sequence[str]) -> Spacing | None:
    """`1,1,1` or `1 1 1` in mm; nothing at all is None.

    Raises:
        UserError: not three numbers.
    """
    if not values:
        return None
    try:
        first, second, third = (float(part) for value in values for part in value.split(","))
    except ValueError as error:
        raise UserError(
            "--spacing",
            expected="three sizes in mm, as in 1,1,1",
            found=" ".join(values),
            remedy="give three numbers",
        ) from error
    return first, second, third


def make_task(config: PrepareConfig, source: Source, *, merged: dict[str, tuple[int, ...]]) -> Task:
    """The task that the options make of a source.

    Args:
        merged: further values of labels, from `map_labels`.

    Raises:
        UserError: a spacing that is not positive, a negative margin, normalizations for other modalities,
            or regions that the labels do not give.
    """
    if config.spacing is not None and min(config.spacing) <= 0:
        raise UserError(
            "--spacing",
            expected="three sizes in mm above 0",
            found=",".join(f"{size:g}" for size in config.spacing),
            remedy="give larger sizes",
        )
    if config.crop is not None and config.crop < 0:
        raise UserError(
            "--crop",
            expected="a margin in mm from 0",
            found=f"{config.crop:g}",
            remedy="give a larger margin",
        )
    return Task(
        modalities=source.modalities,
        labels={"foreground": 1} if config.target == "foreground" else source.labels,
        normalization=_normalization(config.normalization, source.modalities),
        spacing=config.spacing,
        interpolation=config.interpolation if config.spacing is not None else Task.interpolation,
        crop=config.crop,
        target="foreground" if config.target == "foreground" else "labels",
        merged=merged,
        regions=choose_regions(config.target, config.regions, source.labels),
    )


def check_fractions(config: PrepareConfig) -> None:
    """Reject splits that cannot be made.

    Raises:
        UserError: impossible fractions, fewer than two folds, or folds together with given splits.
    """
    make_splits(
        {},
        validation_fraction=config.validation_fraction,
        test_fraction=config.test_fraction,
        seed=config.seed,
    )
    if config.folds is not None and config.folds < 2:
        raise UserError(
            "--folds", expected="2 or more", found=str(config.folds), remedy="give more or leave it out"
        )
    if config.folds is not None and config.splits is not None:
        raise UserError(
            config.splits,
            expected="no folds together with given splits",
            found=f"{config.folds} folds",
            remedy="leave one out",
        )


def _normalization(
    choices: tuple[NormalizationChoice, ...], modalities: tuple[str, ...]
) -> Normalization | tuple[Normalization, ...]:
    if len(choices) not in (1, len(modalities)):
        raise UserError(
            "--normalization",
            expected=f"one, or one for each of {', '.join(modalities)}",
            found=" ".join(choices) or "none",
            remedy="give one for all",
        )
    if len(choices) == 1:
        choices *= len(modalities)
    kinds = tuple(
        default_normalization(base_name(name)) if choice == "auto" else choice
        for name, choice in zip(modalities, choices, strict=True)
    )
    return kinds[0] if len(set(kinds)) == 1 else kinds
