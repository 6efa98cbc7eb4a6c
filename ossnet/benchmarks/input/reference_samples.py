"""Samples as the reference's data set prepares them, written from a specification of its steps.

Every volume is read from its NIfTI file and normalized at each draw, the border comes from a file, and
patches are gathered from unfolded views of the padded volume. Nothing is done more slowly than torch does it.

Letters: C channels, N points, P patch edge, X Y Z voxel axes in the order of the file.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from ossnet.benchmarks.config import InputBenchmarkConfig
from ossnet.data import Case
from ossnet.models import OccupancyConfig
from ossnet.sampling.candidates import border_within_voxels
from ossnet.sampling.grid import encoder_grid, pad

BORDER = 6  # voxels, as in the paper


@dataclass
class ReferenceDataset(Dataset[dict[str, Tensor]]):
    """A torch data set of cases."""

    cases: Sequence[Case]
    borders: Path
    """Folder of the border files, see `write_borders`."""
    model: OccupancyConfig
    settings: InputBenchmarkConfig
    multiple: int
    """What the edges of the padded volume are multiples of."""
    reading: list[float] = field(default_factory=list)
    """Seconds that reading and normalizing took, a sample each."""

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        case = self.cases[index]
        began = time.perf_counter()
        image, label = read_image(case), read_label(case)
        border = torch.from_numpy(np.load(self.borders / f"{case.id}.npy"))
        self.reading.append(time.perf_counter() - began)
        if self.settings.augment:
            image, label, border = _augment(image, label, border)
        working = [-(-edge // self.multiple) * self.multiple for edge in label.shape]
        image, label, border = (pad(volume, working) for volume in (image, label, border))
        return sample(image, label, border, self.model, self.settings)


def read_image(case: Case) -> Float[Tensor, "C X Y Z"]:
    """Modalities as they are stored, each with zero mean and unit deviation over the whole volume."""
    volumes = [_read(path).float() for path in case.images]
    image = torch.stack(volumes) if len(volumes) > 1 else volumes[0]
    if len(volumes) == 1:
        image = image[None] if image.ndim == 3 else image.movedim(-1, 0).contiguous()
    mean, deviation = image.mean((1, 2, 3), keepdim=True), image.std((1, 2, 3), keepdim=True)
    return (image - mean) / deviation


def read_label(case: Case) -> Int[Tensor, "X Y Z"]:
    """1 in the foreground."""
    assert case.label is not None
    return (_read(case.label) > 0).to(torch.uint8)


def _read(path: Path) -> Tensor:
    import nibabel

    return torch.from_numpy(nibabel.Nifti1Image.from_filename(path).get_fdata())


def write_borders(cases: Sequence[Case], folder: Path) -> None:
    """A file a case with 1 in the border band: the reference's offline step."""
    for case in cases:
        np.save(folder / f"{case.id}.npy", border_band(read_label(case)).numpy())


def border_band(label: Int[Tensor, "X Y Z"]) -> Int[Tensor, "X Y Z"]:
    """1 in the paper's band."""
    border = torch.zeros(label.numel(), dtype=torch.uint8)
    if label.any():
        border[border_within_voxels(label > 0, BORDER).long()] = 1
    return border.view(label.shape)


def sample(
    image: Float[Tensor, "C X Y Z"],
    label: Int[Tensor, "X Y Z"],
    border: Int[Tensor, "X Y Z"],
    model: OccupancyConfig,
    settings: InputBenchmarkConfig,
) -> dict[str, Tensor]:
    """Points, their labels and patches, the encoder's input and the coarse label of a padded case."""
    points = _draw(border, settings)
    made = {
        "encoder_input": functional.interpolate(
            image[None], scale_factor=1 / model.encoder_downscale, mode="trilinear", align_corners=False
        )[0],
        "coordinates": points.float(),
        "labels": label[tuple(points.T)].float(),
        "coarse_labels": functional.adaptive_max_pool3d(
            label[None].float(), encoder_grid(model, label.shape)
        ),
    }
    edge, patches = model.patch_edge, []
    if model.local_patch:
        patches.append(_unfolded(image, edge // 2, edge // 2, edge, points))
    if model.mid_range_patch:
        patches.append(functional.avg_pool3d(_unfolded(image, edge, edge - 1, 2 * edge, points), 2))
    if patches:
        made["patches"] = torch.cat(patches, 1) if len(patches) > 1 else patches[0]
    return made


def _augment(image: Tensor, *volumes: Tensor) -> tuple[Tensor, ...]:
    """Flip along the first two axes, change brightness and add noise, each with probability one half."""
    if torch.rand(()) < 0.5:
        axes = [[-3], [-2], [-3, -2], [-3, -2]][int(torch.randint(4, ()))]
        image, *volumes = (volume.flip(axes) for volume in (image, *volumes))  # type: ignore[assignment]
    if torch.rand(()) < 0.5:
        shift = 0.15 * (2 * torch.rand(len(image)) - 1) * image.amax((1, 2, 3))
        image = image + shift[:, None, None, None]
    if torch.rand(()) < 0.5:
        image = image + 0.15 * torch.randn(image.shape)
    return image, *volumes


def _draw(border: Tensor, settings: InputBenchmarkConfig) -> Int[Tensor, "N 3"]:
    band = border.nonzero()
    near = band[torch.randperm(len(band))[: math.floor(settings.points * settings.border_fraction)]]
    room = torch.tensor(border.shape) - 1
    anywhere = (torch.rand(settings.points - len(near), 3) * room).long()
    points = torch.cat([near, anywhere])
    return points[torch.randperm(len(points))]


def _unfolded(
    image: Tensor, before: int, after: int, edge: int, points: Int[Tensor, "N 3"]
) -> Float[Tensor, "N C P P P"]:
    padded = functional.pad(image, [before, after] * 3)
    windows = padded.unfold(1, edge, 1).unfold(2, edge, 1).unfold(3, edge, 1)
    x, y, z = points.unbind(1)
    return windows[:, x, y, z].movedim(1, 0)
