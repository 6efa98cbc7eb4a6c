"""Warnings about cases that can be used but are implausible.

Legend: X Y Z voxel axes in nibabel order.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Integer

from ossnet.data.imaging.geometry import NO_PLACEMENT, corner_distance, to_canonical
from ossnet.data.imaging.nifti import NiftiFile, read_slabs
from ossnet.data.imaging.normalization import default_normalization
from ossnet.data.layouts import Case, Source
from ossnet.data.layouts.modalities import base_name
from ossnet.data.verification.issues import Issue
from ossnet.data.verification.voxels import ChannelStats, SliceCollector, fraction_outside

_MAX_OUTSIDE = 0.5
"""Fraction of a label that may lie where no modality shows anything, as in dark parts of a clipped image."""
_VOXEL_MM = (1e-5, 100.0)
"""Sizes between those of the finest microscope and the coarsest map."""


@dataclass
class ImageStats:
    """Statistics of a case's image files."""

    channels: list[tuple[NiftiFile, ChannelStats]]
    """Every channel with its file, in the order of the modalities."""
    covered: Bool[np.ndarray, "X Y Z"] | None
    """Mask of the voxels where any channel is not 0, on the files' grid; None where it is not needed."""

    def read(self, file: NiftiFile, planes: Sequence[SliceCollector]) -> list[ChannelStats]:
        """Take in a file, and on the way planes of its first channel.

        Raises:
            UserError: the file ends early or is damaged.
        """
        channels = [ChannelStats(file.geometry.shape) for _ in range(file.channels)]
        for number, first, slab in read_slabs(file):
            channels[number].add(slab)
            if self.covered is not None:
                self.covered[:, :, first : first + slab.shape[2]] |= slab != 0
            for plane in planes if number == 0 else ():
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
    yield from _check_size(case, contents)
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
    kinds = {default_normalization(base_name(name)) for name in source.modalities}
    zero_is_nothing = kinds.isdisjoint({"ct", "none"})
    if zero_is_nothing and outside > _MAX_OUTSIDE:
        yield Issue.warning(
            case.id,
            case.label,
            expected="the label within the image",
            found=f"{outside:.0%} of it where every modality is 0",
            remedy="check whether it belongs to another case or has been flipped",
        )


def offset_checks(case: Case, files: Iterable[NiftiFile]) -> Iterator[Issue]:
    """Look for files that are read as intended here, and by some other programs not."""
    for file in files:
        if file.implied_offset:
            yield Issue.warning(
                case.id,
                file.path,
                expected=f"a header that says where the voxels begin (vox_offset {file.offset})",
                found="vox_offset 0, which some programs take for the file's first byte",
                remedy="save it again; here it is read right",
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
    geometry, image = contents.channels[0][0].geometry, case.images[0]
    if not geometry.placed:
        yield Issue.warning(
            case.id,
            image,
            expected="a header that says which side is left",
            found=NO_PLACEMENT,
            remedy="look whether that is so, and set the sform",
        )
    if geometry.qform is None and geometry.qform_code > 0:
        yield Issue.warning(
            case.id,
            image,
            expected="a rotation as qform",
            found="none",
            remedy="set it anew; the sform counts here",
        )
    if geometry.sform is None or geometry.qform is None:
        return
    sform, qform = (replace(geometry, affine=form) for form in (geometry.sform, geometry.qform))
    apart = corner_distance(sform, qform)
    if apart > min(geometry.spacing):
        yield Issue.warning(
            case.id,
            image,
            expected="sform and qform to agree",
            found=f"them up to {apart:.3g} mm apart",
            remedy="set the wrong one anew; the sform counts here",
        )


def _check_size(case: Case, contents: ImageStats) -> Iterator[Issue]:
    """Voxel sizes that no scanner has tell of a unit that is not what the header says."""
    geometry = contents.channels[0][0].geometry
    smallest, largest = min(geometry.canonical_spacing), max(geometry.canonical_spacing)
    if smallest < _VOXEL_MM[0] or largest > _VOXEL_MM[1]:
        sizes = " x ".join(f"{size:.4g}" for size in geometry.canonical_spacing)
        yield Issue.warning(
            case.id,
            case.images[0],
            expected=f"voxels of {_VOXEL_MM[0]:g} to {_VOXEL_MM[1]:g} mm",
            found=f"{sizes} mm (the header's unit is {geometry.units[0]})",
            remedy="correct the unit or the voxel sizes in the header",
        )
