"""Outputs in addition to the label map: probabilities and uncertainty, meshes, volumes, DICOM segmentations.

Letters: X Y Z voxel axes in nibabel's order.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from ossnet.data import write_nifti
from ossnet.data.labels.scheme import ClassScheme
from ossnet.inference.config import ExportConfig
from ossnet.inference.export.dicom_seg import write_dicom_seg
from ossnet.inference.export.mesh import mesh_of, write_mesh
from ossnet.inference.predictor import Segmentation
from ossnet.output.atomic_write import atomic_write
from ossnet.output.file_names import CLASS_BYTES, file_name, file_names
from ossnet.output.palette import rgb


def export(
    segmentation: Segmentation,
    case: str,
    output: Path,
    config: ExportConfig,
    *,
    source: Path,
    file: str | None = None,
) -> list[Path]:
    """Write what is requested of one case.

    Args:
        case: the case's name.
        source: the scan's first image.
        file: what file names begin with; by default made of the case's name.

    Returns:
        The files written.

    Raises:
        UserError: a DICOM segmentation of a scan that is no DICOM series.
    """
    written, geometry = [], segmentation.geometry
    begin = file or file_name(case)
    classes = file_names(segmentation.volumes_ml, limit=CLASS_BYTES)
    if config.probabilities:
        assert segmentation.probabilities is not None
        for name, values in segmentation.probabilities.items():
            written.append(output / f"{begin}_{classes[name]}_prob.nii.gz")
            write_nifti(written[-1], values, geometry)
    if config.uncertainty:
        assert segmentation.probabilities is not None
        values = entropy(list(segmentation.probabilities.values()), segmentation.scheme)
        written.append(output / f"{begin}_uncertainty.nii.gz")
        write_nifti(written[-1], values, geometry)
    if config.mesh is not None:
        for position, name in enumerate(segmentation.volumes_ml):
            mesh = mesh_of(segmentation.mask(name), segmentation.affine, smoothing=config.smoothing)
            if len(mesh.faces):
                written.append(output / f"{begin}_{classes[name]}.{config.mesh}")
                write_mesh(written[-1], mesh, config.mesh, color=rgb(position))
    if config.volumes:
        written.append(output / f"{begin}_volumes.json")
        volumes = {"case": case, "unit": "ml", "volumes": dict(segmentation.volumes_ml)}
        atomic_write(written[-1], json.dumps(volumes))
    if config.dicom_seg:
        written.append(output / f"{begin}_seg.dcm")
        write_dicom_seg(written[-1], segmentation, source)
    return written


def entropy(
    probabilities: Sequence[Float[np.ndarray, "X Y Z"]], scheme: ClassScheme
) -> Float[np.ndarray, "X Y Z"]:
    """The entropy of each voxel's probabilities, from 0 (certain) to 1 (undecided between all classes).

    Regions are decided each by itself; a voxel's entropy is that of its most uncertain region. Of
    probabilities averaged over flips it includes what the mirror images disagree about.
    """
    if scheme.independent:
        return np.max([_bits(each) + _bits(1 - each) for each in probabilities], axis=0)
    background, total = np.ones_like(probabilities[0]), np.zeros_like(probabilities[0])
    for each in probabilities:
        background -= each
        total += _bits(each)
    total += _bits(background)
    return np.clip(total / np.float32(np.log2(len(probabilities) + 1)), 0, 1)


def _bits(probability: Float[np.ndarray, "X Y Z"]) -> Float[np.ndarray, "X Y Z"]:
    from scipy.special import entr

    return entr(np.clip(probability, 0, 1)) / np.float32(np.log(2))
