"""Segmentations as DICOM objects that refer to the series they were made from, by highdicom."""

from pathlib import Path
from typing import Any

import numpy as np

from ossnet.data.imaging.dicom import is_dicom, only_series, read_headers
from ossnet.errors import UserError
from ossnet.inference.predictor import Segmentation
from ossnet.output.atomic_write import atomic_path
from ossnet.output.palette import rgb
from ossnet.output.versions import versions

_SERIES_NUMBER = 9000
"""Far behind those of scanners, so that a viewer lists it last."""


def write_dicom_seg(path: Path, segmentation: Segmentation, source: Path) -> None:
    """Write a DICOM segmentation, a segment a class that is present or not; regions may overlap.

    Patient and study are those of the series; the codes of all segments are the general one for tissue.

    Args:
        source: a file of the series.

    Raises:
        UserError: the scan is no DICOM series, or one of its files is damaged.
    """
    if not is_dicom(source):
        raise UserError(source, expected="a DICOM series, for --dicom-seg", found="a file of another format")
    headers = read_headers(only_series(source))
    import highdicom

    masks = np.stack([segmentation.mask(name) for name in segmentation.volumes_ml], axis=-1)
    volume = highdicom.Volume(
        np.ascontiguousarray(masks.transpose(2, 1, 0, 3), np.uint8),  # slices, rows, columns
        segmentation.affine[:, [2, 1, 0, 3]],
        "PATIENT",
        frame_of_reference_uid=headers[0].get("FrameOfReferenceUID"),
        channels={"SegmentNumber": range(1, masks.shape[-1] + 1)},
        from_reference_convention="RAS",
    )
    found = highdicom.seg.Segmentation(
        source_images=headers,
        pixel_array=volume,
        segmentation_type="BINARY",
        segment_descriptions=_segments(segmentation),
        series_instance_uid=highdicom.UID(),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="ossnet",
        manufacturer_model_name="ossnet predict",
        software_versions=versions()["ossnet"],
        device_serial_number="none",
    )
    with atomic_path(path) as aside:
        found.save_as(aside)


def _segments(segmentation: Segmentation) -> list[Any]:
    import highdicom
    from pydicom.sr.codedict import codes

    by = highdicom.AlgorithmIdentificationSequence(
        name="ossnet", family=codes.cid7162.ArtificialIntelligence, version=versions()["ossnet"]
    )
    return [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=name[:64],  # the longest that the standard allows
            segmented_property_category=codes.SCT.Tissue,
            segmented_property_type=codes.SCT.Tissue,
            algorithm_type="AUTOMATIC",
            algorithm_identification=by,
            display_color=highdicom.color.CIELabColor.from_rgb(*rgb(number - 1)),
        )
        for number, name in enumerate(segmentation.volumes_ml, start=1)
    ]
