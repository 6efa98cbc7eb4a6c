"""Warnings about cases that can be used but are implausible.

Legend: X Y Z voxel axes in nibabel order.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Integer

from ossnet.data.imaging.geometry import corner_distance, to_canonical
from ossnet.data.imaging.nifti import NiftiFile, read_slabs
from ossnet.data.imaging.normalization import default_normalization
from ossnet.data.layouts import Case, Source
from ossnet.data.verification.issues import Issue
from ossnet.data.verification.voxels import ChannelStats, SliceCollector, fraction_outside

_MAX_OUTSIDE = 0.5
"""Fraction of a label that may lie where no modality shows anything, as in dark parts of a clipped image."""


@dataclass
class ImageStats:
    """Statistics of a case's image files."""

    channels: list[tuple[NiftiFile, ChannelStats]]
    """Every channel with its file, in the order of the modalities."""
    covered: Bool[np.ndarray, "X Y Z"] | None
    """Mask of the voxels where any channel is not 0, on the files' grid; None where it is not needed."""

    def read(self, file: NiftiFile, plane: SliceCollector | None) -> list[ChannelStats]:
        """Take in a file, and on the way a plane of its first channel.

        Raises:
            UserError: the file ends early or is damaged.
        """
        channels = [ChannelStats(file.geometry.shape) for _ in range(file.channels)]
        for number, first, slab in read_slabs(file):
            channels[number].add(slab)
            if self.covered is not None:
                self.covered[:, :, first : first + slab.shape[2]] |= slab != 0
            if plane is not None and number == 0:
                plane.add(first, slab)
        self.channels += [(file, channel) for channel in channels]
        return channels


def plausibility_checks(
    case: Case, source: Source, contents: ImageStats, label: Integer[np.ndarray, "X Y Z"]
) -> Iterator[Issue]:
    """Look for what can be prepared and still is probably not intended.

    Args:
        label: in RAS order.
    """
    assert case.label is not None
    assert contents.covered is not None
    yield from _check_channels(case, source, contents)
    yield from _check_forms(case, contents)
    if not label.any():
        yield Issue.warning(
            case.id,
            case.label,
            expected="labeled voxels",
            found="none",
            remedy="draw them, or keep the case as one without",
        )
        return
    geometry = contents.channels[0][0].geometry
    outside = fraction_outside(label, to_canonical(contents.covered, geometry))
    zero_is_nothing = "ct" not in map(default_normalization, source.modalities)
    if zero_is_nothing and outside > _MAX_OUTSIDE:
        yield Issue.warning(
            case.id,
            case.label,
            expected="the label within the image",
            found=f"{outside:.0%} of it where every modality is 0",
            remedy="check whether it belongs to another case or has been flipped",
        )


def _check_channels(case: Case, source: Source, contents: ImageStats) -> Iterator[Issue]:
    known: dict[str, str] = {}
    for modality, (file, channel) in zip(source.modalities, contents.channels, strict=True):
        if channel.constant:
            yield Issue.warning(
                case.id,
                file.path,
                expected=f"a picture as {modality}",
                found=f"the value {channel.minimum:g} in every voxel",
                remedy="export it again or remove the case",
            )
        elif (other := known.setdefault(channel.digest, modality)) != modality:
            yield Issue.warning(
                case.id,
                file.path,
                expected=f"voxels of its own as {modality}",
                found=f"those of {other}",
                remedy=f"put the right {modality} there",
            )


def _check_forms(case: Case, contents: ImageStats) -> Iterator[Issue]:
    """Compare the two affines of a header, of which readers believe one or the other."""
    geometry = contents.channels[0][0].geometry
    if geometry.sform is None or geometry.qform is None:
        return
    sform, qform = (replace(geometry, affine=form) for form in (geometry.sform, geometry.qform))
    apart = corner_distance(sform, qform)
    if apart > min(geometry.spacing):
        yield Issue.warning(
            case.id,
            case.images[0],
            expected="sform and qform to agree",
            found=f"them up to {apart:.3g} mm apart",
            remedy="set the wrong one anew; the sform counts here",
        )
