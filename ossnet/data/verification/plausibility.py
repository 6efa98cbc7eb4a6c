"""What may be a mistake in a case that can be used: warnings.

Legend: X Y Z voxel axes in nibabel order.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Integer

from ossnet.data.imaging.checks import corner_distance
from ossnet.data.imaging.geometry import to_canonical
from ossnet.data.imaging.nifti import NiftiFile, read_slabs
from ossnet.data.imaging.normalization import default_normalization
from ossnet.data.layouts import Case, Source
from ossnet.data.verification.issues import Issue
from ossnet.data.verification.voxels import Channel, Plane, share_outside

_OUTSIDE = 0.5
"""Share of a label that may lie where no modality shows anything, as in what is dark in a clipped image."""


@dataclass
class ImageStats:
    """What a pass over a case's image files has shown."""

    channels: list[tuple[NiftiFile, Channel]]
    """In the order of the modalities."""
    covered: Bool[np.ndarray, "X Y Z"] | None
    """Where any channel is not 0, on the files' grid; None where nobody asks."""

    def read(self, file: NiftiFile, plane: Plane | None) -> list[Channel]:
        """Take in a file, and on the way a plane of its first channel.

        Raises:
            UserError: the file ends early or is damaged.
        """
        channels = [Channel(file.geometry.shape) for _ in range(file.channels)]
        for number, first, slab in read_slabs(file):
            channels[number].add(slab)
            if self.covered is not None:
                self.covered[:, :, first : first + slab.shape[2]] |= slab != 0
            if plane is not None and number == 0:
                plane.add(first, slab)
        self.channels += [(file, channel) for channel in channels]
        return channels


def doubts(
    case: Case, source: Source, contents: ImageStats, label: Integer[np.ndarray, "X Y Z"]
) -> Iterator[Issue]:
    """Look for what can be prepared and still is hardly meant.

    Args:
        label: in RAS order.
    """
    assert case.label is not None
    assert contents.covered is not None
    yield from _about_channels(case, source, contents)
    yield from _about_forms(case, contents)
    if not label.any():
        yield warning(
            case.id,
            case.label,
            "expected labeled voxels, found none",
            "draw them, or keep the case as one without",
        )
        return
    geometry = contents.channels[0][0].geometry
    outside = share_outside(label, to_canonical(contents.covered, geometry))
    zero_is_nothing = "ct" not in map(default_normalization, source.modalities)
    if zero_is_nothing and outside > _OUTSIDE:
        yield warning(
            case.id,
            case.label,
            f"expected the label within the image, found {outside:.0%} of it where every modality is 0",
            "look whether it belongs to another case or has been flipped",
        )


def warning(case: str, file: Path, what: str, remedy: str) -> Issue:
    """A finding for which a case is not set aside."""
    return Issue("warning", case, file, what, remedy)


def _about_channels(case: Case, source: Source, contents: ImageStats) -> Iterator[Issue]:
    known: dict[str, str] = {}
    for modality, (file, channel) in zip(source.modalities, contents.channels, strict=True):
        if channel.constant:
            found = f"the value {channel.minimum:g} in every voxel"
            yield warning(
                case.id,
                file.path,
                f"expected a picture as {modality}, found {found}",
                "export it again or remove the case",
            )
        elif (other := known.setdefault(channel.digest, modality)) != modality:
            yield warning(
                case.id,
                file.path,
                f"expected voxels of its own as {modality}, found those of {other}",
                f"put the right {modality} there",
            )


def _about_forms(case: Case, contents: ImageStats) -> Iterator[Issue]:
    """Readers differ in which of two places in a header they believe."""
    geometry = contents.channels[0][0].geometry
    if geometry.sform is None or geometry.qform is None:
        return
    sform, qform = (replace(geometry, affine=form) for form in (geometry.sform, geometry.qform))
    apart = corner_distance(sform, qform)
    if apart > min(geometry.spacing):
        yield warning(
            case.id,
            case.images[0],
            f"expected sform and qform to agree, found them up to {apart:.3g} mm apart",
            "set the wrong one anew; the sform counts here",
        )
