"""A study in the naming of BraTS 2023 with twenty faults of twenty kinds, and healthy cases among them."""

import gzip
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np

from ossnet.data.phantom import make_phantom

SHAPE = (20, 18, 16)
SUFFIXES = {"FLAIR": "-t2f", "T1w": "-t1n", "T1gd": "-t1c", "T2w": "-t2w"}
HEALTHY = ("healthy-0", "healthy-1", "healthy-2", "healthy-3", "healthy-4", "healthy-5")


def image_of(root: Path, case: str, suffix: str = "-t2f") -> Path:
    return root / case / f"{case}{suffix}.nii.gz"


def label_of(root: Path, case: str) -> Path:
    return image_of(root, case, "-seg")


def write_case(root: Path, case: str, index: int) -> None:
    """As BraTS 2023 leaves files: a float label whose header places it by the qform alone."""
    phantom = make_phantom(index, shape=SHAPE, seed=3)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    affine[:2, 3] = 239
    (root / case).mkdir(parents=True)
    for channel, suffix in enumerate(SUFFIXES.values()):
        image = nibabel.Nifti1Image(phantom.images[..., channel], affine)
        image.set_sform(affine, 1)
        image.set_qform(affine, 1)
        nibabel.save(image, image_of(root, case, suffix))
    label = nibabel.Nifti1Image(phantom.label.astype(np.float32), affine)
    label.set_sform(None, 0)
    label.set_qform(affine, 1)
    nibabel.save(label, label_of(root, case))


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray], move: float = 0.0) -> None:
    image = nibabel.load(path)
    affine = image.affine.copy()
    affine[0, 3] += move
    voxels = change(np.asarray(image.dataobj))
    header = None if voxels.dtype.fields else image.header.copy()
    if header is not None:
        header.set_data_dtype(voxels.dtype)
    changed = nibabel.Nifti1Image(voxels, affine, header)
    nibabel.save(changed, path)


def one_voxel(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(image: np.ndarray) -> np.ndarray:
        changed = image.astype(np.float32)
        changed[3, 4, 5] = value
        return changed

    return change


def colored(image: np.ndarray) -> np.ndarray:
    return np.zeros(image.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])


def truncate(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 4 // 5])


def flatten(path: Path) -> None:
    """An affine whose third axis has no length."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[312:328] = np.zeros(4, "<f4").tobytes()  # srow_z
    path.write_bytes(gzip.compress(bytes(content)))


def forbid(path: Path) -> None:
    """Unreadable; where everything may be read, as root may, no image at all."""
    path.chmod(0)
    if os.access(path, os.R_OK):
        path.write_text("no image")


def copy_case(root: Path, case: str, origin: str) -> None:
    """Another compression, the same voxels."""
    for suffix in (*SUFFIXES.values(), "-seg"):
        content = gzip.decompress(image_of(root, origin, suffix).read_bytes())
        image_of(root, case, suffix).write_bytes(gzip.compress(content, compresslevel=1))


@dataclass(frozen=True)
class Fault:
    plant: Callable[[Path, str], object]
    file: str
    """Suffix of the file that is to be named; empty for the case's folder."""
    what: str
    severity: str = "error"


FAULTS = {
    "truncated-image": Fault(lambda r, c: truncate(image_of(r, c)), "-t2f", "found 0 readable ones"),
    "truncated-label": Fault(lambda r, c: truncate(label_of(r, c)), "-seg", "readable ones"),
    "nan": Fault(
        lambda r, c: rewrite(image_of(r, c, "-t1c"), one_voxel(np.nan)), "-t1c", "found 1 that are NaN"
    ),
    "infinite": Fault(
        lambda r, c: rewrite(image_of(r, c, "-t2w"), one_voxel(np.inf)), "-t2w", "found 1 that are NaN or inf"
    ),
    "label-of-another": Fault(
        lambda r, c: shutil.copy(label_of(r, HEALTHY[1]), label_of(r, c)), "-seg", "found that of", "warning"
    ),
    "shifted-label": Fault(
        lambda r, c: rewrite(label_of(r, c), lambda label: label, move=4), "-seg", "affine up to 4 mm away"
    ),
    "shifted-modality": Fault(
        lambda r, c: rewrite(image_of(r, c, "-t1n"), lambda image: image, move=4), "-t1n", "affine up to 4 mm"
    ),
    "other-shape": Fault(
        lambda r, c: rewrite(label_of(r, c), lambda label: label[:-1]), "-seg", "found (19, 18, 16)"
    ),
    "label-255": Fault(lambda r, c: rewrite(label_of(r, c), one_voxel(255)), "-seg", "found 255 too"),
    "label-fraction": Fault(
        lambda r, c: rewrite(label_of(r, c), one_voxel(0.5)), "-seg", "expected whole label values, found 0.5"
    ),
    "missing-modality": Fault(
        lambda r, c: image_of(r, c, "-t1n").unlink(), "-t1n", "expected a NIfTI file, found no file"
    ),
    "missing-label": Fault(lambda r, c: label_of(r, c).unlink(), "-t2f", "expected a label"),
    "orphan-label": Fault(
        lambda r, c: [image_of(r, c, suffix).unlink() for suffix in SUFFIXES.values()], "", "found none"
    ),
    "the-copy": Fault(
        lambda r, c: copy_case(r, c, HEALTHY[0]), "-t2f", "expected images of its own", "warning"
    ),
    "empty-label": Fault(
        lambda r, c: rewrite(label_of(r, c), np.zeros_like), "-seg", "expected labeled voxels", "warning"
    ),
    "unreadable": Fault(lambda r, c: forbid(image_of(r, c, "-t1c")), "-t1c", "NIfTI|permission"),
    "zero-bytes": Fault(lambda r, c: image_of(r, c, "-t2w").write_bytes(b""), "-t2w", "found 0 bytes"),
    "constant": Fault(
        lambda r, c: rewrite(image_of(r, c, "-t1n"), lambda image: np.full_like(image, 7)),
        "-t1n",
        "the value 7 in every voxel",
        "warning",
    ),
    "flat-affine": Fault(lambda r, c: flatten(image_of(r, c)), "-t2f", "affine that can be inverted"),
    "four-axes": Fault(
        lambda r, c: rewrite(image_of(r, c), lambda image: np.stack([image] * 2, axis=-1)),
        "-t2f",
        "expected 4 modalities, found 5",
    ),
}
MORE_FAULTS = {
    "color": Fault(lambda r, c: rewrite(image_of(r, c), colored), "-t2f", "found color voxels"),
    "complex": Fault(
        lambda r, c: rewrite(image_of(r, c), lambda image: image.astype(np.complex64)),
        "-t2f",
        "found complex",
    ),
    "label-nan": Fault(
        lambda r, c: rewrite(label_of(r, c), one_voxel(np.nan)),
        "-seg",
        "expected whole label values, found nan",
    ),
    "image-as-label": Fault(lambda r, c: shutil.copy(image_of(r, c), label_of(r, c)), "-seg", "others too"),
    "damaged-label": Fault(lambda r, c: damage(label_of(r, c)), "-seg", "readable ones"),
    "label-with-channels": Fault(
        lambda r, c: rewrite(label_of(r, c), lambda label: np.stack([label] * 2, axis=-1)),
        "-seg",
        "expected a 3-D label, found 2 channels",
    ),
    "same-modality-twice": Fault(
        lambda r, c: shutil.copy(image_of(r, c, "-t1n"), image_of(r, c, "-t1c")),
        "-t1c",
        "expected voxels of its own as T1gd, found those of T1w",
        "warning",
    ),
    "flipped-label": Fault(
        lambda r, c: rewrite(label_of(r, c), in_the_corner), "-seg", "where every modality is 0", "warning"
    ),
    "forms-apart": Fault(
        lambda r, c: part_forms(image_of(r, c)), "-t2f", "sform and qform to agree", "warning"
    ),
    "strange-datatype": Fault(lambda r, c: set_bytes(image_of(r, c), 70, b"\x39\x30"), "-t2f", "NIfTI file"),
    "strange-quaternion": Fault(
        lambda r, c: set_bytes(image_of(r, c), 256, np.full(3, 9, "<f4").tobytes()),
        "-t2f",
        "expected a rotation as qform",
        "warning",
    ),
}


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-6] ^= 255  # of the checksum
    path.write_bytes(bytes(content))


def in_the_corner(label: np.ndarray) -> np.ndarray:
    moved = np.zeros_like(label)
    moved[:4, :4, :4] = 1
    return moved


def set_bytes(path: Path, place: int, value: bytes) -> None:
    """Overwrite a part of the header."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[place : place + len(value)] = value
    path.write_bytes(gzip.compress(bytes(content)))


def part_forms(path: Path) -> None:
    image = nibabel.load(path)
    image.set_qform(image.affine @ np.diag([-1, 1, -1, 1]), 1)
    nibabel.save(image, path)


def plant(root: Path, faults: dict[str, Fault]) -> Path:
    """A case for each fault, named as it, and the healthy ones."""
    for index, case in enumerate((*HEALTHY, *faults)):
        write_case(root, case, index)
    for case, fault in faults.items():
        fault.plant(root, case)
    return root
