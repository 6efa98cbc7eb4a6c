"""How sizes, voxel sizes and intensities are distributed over the cases, as charts for the page."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ossnet.data.verification.issues import CaseSummary, FileSummary, Verification
from ossnet.output.charts import histogram

if TYPE_CHECKING:
    from markupsafe import Markup

_AXES = {"left to right": "RL", "back to front": "AP", "foot to head": "SI"}


@dataclass(frozen=True)
class Distribution:
    """A quantity over the cases."""

    name: str
    chart: "Markup | None"
    same: str
    """The value that all cases have, where there is no chart."""


def distributions(verification: Verification) -> list[Distribution]:
    """Sizes and spacings along the body's axes, then the mean intensity of each modality."""
    first = [view.images[0] for view in verification.cases if view.images]
    found = [
        *_along_axes(first, "size", "voxels"),
        *_along_axes(first, "spacing", "mm"),
        *(
            (f"mean of {modality}", "", [mean for mean in means if mean is not None])
            for modality, means in zip(verification.modalities, _means(verification), strict=False)
        ),
    ]
    return [_distribution(name, unit, values) for name, unit, values in found if values]


def modality_means(view: CaseSummary) -> list[float | None]:
    """The mean of each channel of a case, in the order of its files."""
    return [mean for image in view.images for mean in image.means]


def _means(verification: Verification) -> list[tuple[float | None, ...]]:
    """For each modality the means of all cases that have as many channels."""
    whole = [modality_means(view) for view in verification.cases]
    return list(zip(*(means for means in whole if len(means) == len(verification.modalities)), strict=True))


def _along_axes(files: Sequence[FileSummary], what: str, unit: str) -> Iterator[tuple[str, str, list[float]]]:
    for name, letters in _AXES.items():
        yield f"{what}, {name}", unit, [value for file in files for value in _along(file, what, letters)]


def _along(file: FileSummary, what: str, letters: str) -> list[float]:
    values = file.shape if what == "size" else file.spacing
    if values is None or file.orientation is None:
        return []
    return [float(values[axis]) for axis, letter in enumerate(file.orientation) if letter in letters]


def _distribution(name: str, unit: str, values: Sequence[float]) -> Distribution:
    titled = f"{name} ({unit})" if unit else name
    if max(values) - min(values) > 1e-6 * max(abs(max(values)), 1e-12):
        return Distribution(titled, histogram(values, label=titled), "")
    cases = "the only case" if len(values) == 1 else f"all {len(values)} cases"
    return Distribution(titled, None, f"{values[0]:.4g} in {cases}")
