"""A small network trained on one volume in seconds: it finds lesions, and is uncertain of many."""

from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from ossnet.inference.query.boxes import BoxPatches
from ossnet.models import OccupancyConfig, OccupancyNetwork
from ossnet.sampling.batches import class_masks, targets
from ossnet.sampling.downscale import downscale_planes, max_pool_any
from ossnet.sampling.grid import coordinates, encoder_grid, offset, pad, working_shape
from ossnet.training.config import LossConfig
from ossnet.training.losses import auxiliary_loss, segmentation_loss

POINTS = 2048


def small_config(channels: int = 1, classes: int = 1, **fields: object) -> OccupancyConfig:
    values = {
        "in_channels": channels,
        "classes": classes,
        "encoder_channels": (8, 16, 16),
        "latent_grid": (4, 4, 4),
        "patch_edge": 5,
        "decoder_width": 48,
        "decoder_blocks": 2,
        "coordinates": "normalized",
        **fields,
    }
    return OccupancyConfig(**values)


def teach(
    config: OccupancyConfig, image: np.ndarray, codes: np.ndarray, *, steps: int, seed: int = 0
) -> tuple[OccupancyNetwork, tuple[int, int, int]]:
    """A network that has seen this volume, half of its points near foreground; and its working shape."""
    torch.manual_seed(seed)
    network = OccupancyNetwork(config)
    volume, label = torch.from_numpy(image), torch.from_numpy(codes)
    grid = working_shape(label.shape, multiple=config.encoder_downscale * 2 ** len(config.encoder_channels))
    patches = BoxPatches(volume, edge=config.patch_edge, local=True, mid_range=config.mid_range_patch)
    seen = downscale_planes(volume.unbind(1), grid, config.encoder_downscale)[None]
    frame = torch.tensor(offset(label.shape, grid))
    near = torch.from_numpy(np.argwhere(ndimage.binary_dilation(codes > 0, iterations=2)))
    coarse = _coarse(label, config, grid)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps)
    labels = torch.empty(1, config.classes, 2 * (POINTS // 2))
    if not config.overlapping:
        labels = labels[:, 0].long()
    for _ in range(steps):
        uniform = torch.stack([torch.randint(edge, (POINTS // 2,)) for edge in label.shape], 1)
        points = torch.cat([uniform, near[torch.randint(len(near), (POINTS // 2,))]])
        places = coordinates(points + frame, grid)[None]
        found = network(seen, places, patches.gather(points)[None], grid)
        targets(label[points.unbind(1)][None], config, axis=1, out=labels)
        loss = segmentation_loss(found.logits.movedim(-1, 1), labels, LossConfig())
        if found.auxiliary is not None:
            loss = loss + 0.1 * auxiliary_loss(found.auxiliary, coarse)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval(), grid


def lesions(shape: Sequence[int], count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A noisy volume with bright lesions of 2 to 40 voxels, well apart, and their mask."""
    random = np.random.default_rng(seed)
    mask = np.zeros(shape, np.uint8)
    for _ in range(count):
        size, place = int(random.integers(2, 41)), [int(random.integers(5, edge - 5)) for edge in shape]
        distances = np.linalg.norm(np.indices(shape).reshape(3, -1).T - place, axis=1)
        mask.reshape(-1)[np.argsort(distances, kind="stable")[:size]] = 1
    smooth = ndimage.gaussian_filter(random.normal(size=shape), 1)
    image = 3.0 * mask + 0.4 * random.normal(size=shape) + smooth / smooth.std() * 0.3
    return image[None].astype(np.float32), mask


def _coarse(label: Tensor, config: OccupancyConfig, grid: Sequence[int]) -> Tensor:
    cells = encoder_grid(config, grid)
    return torch.stack([max_pool_any(mask, cells) for mask in class_masks(pad(label, grid), config)])[
        None
    ].float()
