"""What else a clinic reads: probabilities and doubts as NIfTI, meshes, volumes as JSON, beside the label map.

Letters: X Y Z voxel axes in nibabel's order.
"""

import json
from pathlib import Path

from ossnet.data import write_nifti
from ossnet.inference.batch.options import ExportConfig
from ossnet.inference.export.entropy import entropy
from ossnet.inference.export.mesh import mesh_of, write_mesh
from ossnet.inference.predictor import Segmentation
from ossnet.output.atomic_write import atomic_write


def export(segmentation: Segmentation, case: str, output: Path, config: ExportConfig) -> list[Path]:
    """Write what was asked for; the files."""
    written = []
    if config.probabilities:
        assert segmentation.probabilities is not None
        for name, values in segmentation.probabilities.items():
            written.append(output / f"{case}_{name}_prob.nii.gz")
            write_nifti(written[-1], values, segmentation.geometry)
    if config.uncertainty:
        assert segmentation.probabilities is not None
        chances, overlapping = list(segmentation.probabilities.values()), segmentation.overlapping
        written.append(output / f"{case}_uncertainty.nii.gz")
        write_nifti(written[-1], entropy(chances, overlapping=overlapping), segmentation.geometry)
    if config.mesh is not None:
        for name in segmentation.volumes_ml:
            mesh = mesh_of(segmentation.mask(name), segmentation.affine, smoothing=config.smoothing)
            if len(mesh.faces):
                written.append(output / f"{case}_{name}.{config.mesh}")
                write_mesh(written[-1], mesh, config.mesh)
    if config.volumes:
        written.append(output / f"{case}_volumes.json")
        volumes = {"case": case, "unit": "ml", "volumes": dict(segmentation.volumes_ml)}
        atomic_write(written[-1], json.dumps(volumes))
    return written
