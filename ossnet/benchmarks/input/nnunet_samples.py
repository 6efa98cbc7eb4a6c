"""Samples by the loader of nnU-Net v2, with its own augmentation, where the package is installed.

It trains dense networks: a sample is a crop of at most 128^3 voxels for every network. Volumes are stored
as its preprocessing stores them: float32, compressed by Blosc in chunks that fit the crop.

Letters: C channels, X Y Z voxel axes in the order of the file.
"""

from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from ossnet.benchmarks.input.reference_samples import read_image, read_label
from ossnet.data import Case

_CROP = 128
_ROTATION = np.pi / 6  # of nnU-Net's trainer, for crops of about equal edges
_FOREGROUND = 0.33  # of the crops are around a foreground voxel
_LOCATIONS = 10_000  # foreground voxels that its preprocessing keeps a class


def nnunet_import_error() -> str | None:
    """Why nnU-Net v2 cannot be imported; None where it can."""
    try:
        import_module("nnunetv2.training.nnUNetTrainer.nnUNetTrainer")
    except ImportError as error:
        return str(error)
    return None


def write_nnunet_cases(cases: Sequence[Case], folder: Path) -> None:
    """Write the cases as nnU-Net's preprocessing leaves them: once a case."""
    from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2

    for case in cases:
        image, label = read_image(case).numpy(), read_label(case).numpy()[None].astype(np.int8)
        crop = _crop(label.shape[1:])
        blocks, chunks = comp_blosc2_params(image.shape, crop)
        seg_blocks, seg_chunks = comp_blosc2_params(label.shape, crop)
        places = np.argwhere(label > 0)
        chosen = np.random.default_rng(0).permutation(len(places))[:_LOCATIONS]
        nnUNetDatasetBlosc2.save_case(
            image,
            label,
            {"class_locations": {1: places[chosen]}},
            str(folder / case.id),
            chunks=chunks,
            blocks=blocks,
            chunks_seg=seg_chunks,
            blocks_seg=seg_blocks,
        )


def nnunet_samples(folder: Path, shape: Sequence[int], *, augment: bool) -> Iterator[object]:
    """Iterate over crops of the cases in a folder, without end, one at a time in this process.

    Args:
        shape: X, Y, Z of the cases.
    """
    from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
    from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    crop, turn = _crop(shape), (-_ROTATION, _ROTATION)
    transforms = nnUNetTrainer.get_training_transforms(
        crop, turn, None, (0, 1, 2), False, use_mask_for_norm=[False] * 16
    )
    large = get_patch_size(crop, turn, turn, turn, (0.85, 1.25))
    samples: Iterator[object] = nnUNetDataLoader(
        nnUNetDatasetBlosc2(str(folder)),
        1,
        large if augment else crop,
        crop,
        SimpleNamespace(all_labels=[0, 1], has_ignore_label=False),
        oversample_foreground_percent=_FOREGROUND,
        probabilistic_oversampling=True,
        transforms=transforms if augment else None,
    )
    return samples


def _crop(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(min(edge, _CROP) for edge in shape)
