"""A small study to be prepared or spoilt, and what a cluster does to it, in a loop."""

from pathlib import Path

import nibabel
import numpy as np

from ossnet.data.prepare.build import finalize, make_case, open_store_for_writing
from ossnet.data.prepare.plan import PreparePlan
from ossnet.data.store.case_file import write_case
from ossnet.data.store.store import Manifest
from ossnet.errors import UserError


def label_of(scans: Path, number: int = 1) -> Path:
    return scans / "labelsTr" / f"phantom_{number:03d}.nii.gz"


def image_of(scans: Path, number: int = 1) -> Path:
    return scans / "imagesTr" / f"phantom_{number:03d}.nii.gz"


def rewrite(path: Path, change) -> None:
    image = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(change(np.asarray(image.dataobj)), image.affine, image.header), path)


def prepare_here(plan: PreparePlan) -> Manifest:
    """What a cluster does, in a loop."""
    excluded = dict(plan.excluded)
    with open_store_for_writing(plan):
        for case in plan.missing:
            try:
                write_case(plan.path(case), make_case(case, plan.recipe))
            except UserError as error:
                excluded[case.id] = str(error)
        return finalize(plan, excluded)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
