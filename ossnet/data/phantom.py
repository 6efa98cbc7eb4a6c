"""BraTS-like phantom scans: skull-stripped heads with nested, irregular tumours, as an MSD folder.

Legend: X Y Z voxel axes in nibabel order, here along R, A and S.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int16, UInt8

from ossnet.data.imaging.geometry import Shape
from ossnet.errors import UserError
from ossnet.output.atomic_write import atomic_folder

LABELS = {"background": 0, "edema": 1, "non-enhancing": 2, "enhancing": 3}

# Mean intensity of fluid, gray and white matter, edema, non-enhancing core and enhancing rim.
_CONTRASTS = {
    "FLAIR": (120, 420, 340, 760, 430, 640),
    "T1w": (150, 400, 560, 330, 220, 380),
    "T1gd": (150, 420, 570, 350, 230, 900),
    "T2w": (900, 480, 340, 720, 780, 560),
}
MODALITIES = tuple(_CONTRASTS)

# How scanners and tools leave files: axis codes, sform code, qform code.
_HEADERS = (("RAS", 1, 1), ("LPS", 1, 1), ("RAS", 2, 0), ("LAS", 0, 1), ("PIR", 1, 1))


@dataclass(frozen=True)
class _Difficulty:
    """How hard it is to find lesions."""

    lesions: tuple[int, int]
    """Fewest and most of a case."""
    radius: tuple[float, float]
    """Smallest and largest, as a fraction of half the field of view."""
    contrast: float
    """Of lesions to white matter, as a fraction of that in `_CONTRASTS`."""
    bias: float
    """Deviation of the logarithm of the coils' sensitivity."""
    noise: float
    """Deviation of the noise, where white matter is 340 and more."""


_EASY = _Difficulty(lesions=(1, 1), radius=(0.32, 0.5), contrast=1.0, bias=0.12, noise=25.0)
_HARD = _Difficulty(lesions=(1, 5), radius=(0.08, 0.3), contrast=0.4, bias=0.35, noise=40.0)


@dataclass(frozen=True)
class Phantom:
    """A phantom case in RAS."""

    images: Int16[np.ndarray, "X Y Z C"]
    label: UInt8[np.ndarray, "X Y Z"]


def write_phantom(
    path: Path,
    cases: int = 12,
    shape: Shape = (64, 64, 48),
    seed: int = 0,
    *,
    modalities: Sequence[str] = MODALITIES,
    hard: bool = False,
) -> Path:
    """Write a study in the MSD layout; the same arguments give the same voxels, and nothing is written twice.

    Args:
        shape: voxels of 1 mm along R, A and S; some cases store them in another order, as real ones do.
        modalities: any of `MODALITIES`; one gives 3-D images, several give 4-D ones.
        hard: with up to five lesions, smaller ones of less contrast, a stronger bias field and more noise.

    Returns:
        The folder.

    Raises:
        UserError: an unknown modality, too small a shape, or a folder that holds something else.
    """
    if not modalities or not set(modalities) <= set(MODALITIES):
        raise UserError(
            "phantom modalities",
            expected=f"some of {', '.join(MODALITIES)}",
            found=", ".join(modalities) or "none",
            remedy="choose among them",
        )
    if min(shape) < 8 or cases < 1:
        raise UserError(
            "phantom",
            expected="at least 1 case and 8 voxels along each axis",
            found=f"{cases} cases of {shape}",
            remedy="give more",
        )
    made_from = {"cases": cases, "shape": list(shape), "seed": seed, "modalities": list(modalities)}
    made_from |= {"hard": True} if hard else {}
    if path.exists():
        if _made_from(path) == made_from:
            return path
        raise UserError(
            path,
            expected="a new folder for the phantom",
            found="something else",
            remedy="remove it or name another",
        )
    with atomic_folder(path) as aside:
        for index in range(cases):
            phantom = make_phantom(index, shape=shape, seed=seed, modalities=modalities, hard=hard)
            _write_case(aside, index, phantom)
        (aside / "dataset.json").write_text(json.dumps(_description(cases, modalities, made_from), indent=1))
    return path


def make_phantom(
    index: int, *, shape: Shape, seed: int, modalities: Sequence[str] = MODALITIES, hard: bool = False
) -> Phantom:
    """Make a case; it depends on the seed and its index only, not on how many cases there are."""
    rng, difficulty = np.random.default_rng([seed, index]), _HARD if hard else _EASY
    brain = _brain(rng, shape)
    tissue = _tissue(rng, brain)
    label = _lesions(rng, brain, difficulty)
    tissue = np.where(label > 0, label + 2, tissue)
    images = [_image(rng, tissue, brain, _CONTRASTS[modality], difficulty) for modality in MODALITIES]
    chosen = [image for modality, image in zip(MODALITIES, images, strict=True) if modality in modalities]
    order = [name for name in MODALITIES if name in modalities]
    stacked = np.stack([chosen[order.index(modality)] for modality in modalities], axis=-1)
    return Phantom(stacked, label)


def _grid(shape: Shape) -> Float[np.ndarray, "3 X Y Z"]:
    """Coordinates from -1 to 1 along each axis."""
    axes = [np.linspace(-1, 1, size) for size in shape]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def _smooth(rng: np.random.Generator, shape: Shape, width: float) -> Float[np.ndarray, "X Y Z"]:
    """Smooth noise of unit deviation: Gaussian bumps of this `width` on a coarse lattice."""
    nodes = np.arange(-2 * width, 1 + 3 * width, width)
    field = rng.standard_normal((nodes.size,) * 3)
    for size in shape:  # each pass takes the first axis and leaves its voxels last
        centers = np.linspace(0, 1, size)
        bumps = np.exp(-0.5 * ((nodes[:, None] - centers) / width) ** 2)
        field = np.tensordot(field, bumps, axes=(0, 0))
    return field / field.std()


def _brain(rng: np.random.Generator, shape: Shape) -> Bool[np.ndarray, "X Y Z"]:
    radii = np.array([0.78, 0.9, 0.82]) * rng.uniform(0.93, 1.05, 3)
    distance = np.sqrt(sum((axis / radius) ** 2 for axis, radius in zip(_grid(shape), radii, strict=True)))
    return distance + 0.04 * _smooth(rng, shape, 0.06) < 1


def _tissue(rng: np.random.Generator, brain: Bool[np.ndarray, "X Y Z"]) -> UInt8[np.ndarray, "X Y Z"]:
    """0 fluid, 1 gray, 2 white matter: a folded cortex around white matter, ventricles in the middle."""
    from scipy.ndimage import distance_transform_edt

    depth = distance_transform_edt(brain) / max(brain.shape)
    folded = depth + 0.025 * _smooth(rng, brain.shape, 0.03)
    tissue = np.where(folded < 0.02, 0, np.where(folded < 0.085, 1, 2))
    x, y, z = _grid(brain.shape)
    ventricles = ((np.abs(x) - 0.14) / 0.09) ** 2 + (y / 0.38) ** 2 + ((z - 0.1) / 0.2) ** 2
    tissue[ventricles + 0.2 * _smooth(rng, brain.shape, 0.05) < 1] = 0
    return tissue.astype(np.uint8)


def _lesions(
    rng: np.random.Generator, brain: Bool[np.ndarray, "X Y Z"], difficulty: _Difficulty
) -> UInt8[np.ndarray, "X Y Z"]:
    fewest, most = difficulty.lesions
    count = fewest if fewest == most else rng.integers(fewest, most, endpoint=True)
    label = np.zeros(brain.shape, np.uint8)
    for _ in range(count):
        lesion = _lesion(rng, brain, difficulty.radius)
        label = np.where(lesion > 0, lesion, label)
    return label


def _lesion(
    rng: np.random.Generator, brain: Bool[np.ndarray, "X Y Z"], radii: tuple[float, float]
) -> UInt8[np.ndarray, "X Y Z"]:
    """Edema around an enhancing rim around a non-enhancing core, each with an outline of its own."""
    shape = brain.shape
    radius = rng.uniform(*radii)
    center = rng.uniform(0.15, 0.42, 3) * rng.choice([-1, 1], 3)
    stretch = rng.uniform(0.85, 1.2, 3)
    offsets = (_grid(shape) - center[:, None, None, None]) * stretch[:, None, None, None]
    distance = np.linalg.norm(offsets, axis=0) / radius
    outer = distance + 0.14 * _smooth(rng, shape, 0.07)
    inner = outer + 0.05 * _smooth(rng, shape, 0.04)
    label = np.zeros(shape, np.uint8)
    label[(outer < 1) & brain] = LABELS["edema"]
    label[(inner < 0.66) & (label > 0)] = LABELS["enhancing"]
    label[(inner < 0.42) & (label > 0)] = LABELS["non-enhancing"]
    return label


def _image(
    rng: np.random.Generator,
    tissue: UInt8[np.ndarray, "X Y Z"],
    brain: Bool[np.ndarray, "X Y Z"],
    means: Sequence[int],
    difficulty: _Difficulty,
) -> Int16[np.ndarray, "X Y Z"]:
    """Blurred tissue contrast, coil sensitivity, Rician noise; zero outside the brain, as after stripping."""
    from scipy.ndimage import gaussian_filter

    gain = rng.uniform(0.6, 1.6)  # MR intensities have no unit
    intensities = np.array(means, float)
    intensities[3:] = means[2] + difficulty.contrast * (intensities[3:] - means[2])
    clean = gaussian_filter(intensities[tissue], 0.5)
    clean *= np.exp(difficulty.bias * _smooth(rng, tissue.shape, 0.3))
    noise = difficulty.noise * rng.standard_normal((2, *tissue.shape))
    signal = gain * np.hypot(clean + noise[0], noise[1])
    return np.where(brain, np.maximum(signal, 1), 0).astype(np.int16)


def _write_case(root: Path, index: int, phantom: Phantom) -> None:
    name = _name(index)
    codes, sform, qform = _HEADERS[index % len(_HEADERS)]
    images = phantom.images if phantom.images.shape[-1] > 1 else phantom.images[..., 0]
    _write(root / "imagesTr" / name, images, codes, sform, qform)
    _write(root / "labelsTr" / name, phantom.label, codes, sform, qform)


def _write(path: Path, array: np.ndarray, codes: str, sform: int, qform: int) -> None:
    """An array in RAS as a file with these axes and header codes, its middle near the scanner's origin."""
    import nibabel
    from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

    affine = np.eye(4)
    affine[:3, 3] = [-size / 2 for size in array.shape[:3]]
    image = nibabel.Nifti1Image(array, affine)
    image = image.as_reoriented(ornt_transform(io_orientation(affine), axcodes2ornt(codes)))
    header = image.header
    header.set_xyzt_units("mm", "sec")
    header.set_qform(image.affine, qform)
    header.set_sform(image.affine, sform)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(image.dataobj), image.affine, header), path)


def _description(cases: int, modalities: Sequence[str], made_from: dict[str, object]) -> dict[str, object]:
    return {
        "name": "Phantom",
        "description": "Made by ossnet.data.write_phantom",
        "tensorImageSize": "4D" if len(modalities) > 1 else "3D",
        "modality": {str(number): modality for number, modality in enumerate(modalities)},
        "labels": {str(value): name for name, value in LABELS.items()},
        "numTraining": cases,
        "training": [
            {"image": f"./imagesTr/{_name(index)}", "label": f"./labelsTr/{_name(index)}"}
            for index in range(cases)
        ],
        "test": [],
        "phantom": made_from,
    }


def _name(index: int) -> str:
    return f"phantom_{index:03d}.nii.gz"


def _made_from(path: Path) -> object:
    try:
        return json.loads((path / "dataset.json").read_text()).get("phantom")
    except (OSError, ValueError, AttributeError):
        return None
