"""Patches against a plain loop over voxels, at the border of the volume as well."""

import numpy as np
import pytest
import torch
from slow_patch import slow_patch

from ossnet.sampling.patches import PatchSource


@pytest.mark.parametrize("edge", [3, 5, 7])
def test_patches_equal_a_loop_over_voxels(edge: int) -> None:
    generator = np.random.default_rng(edge)
    volume = generator.normal(size=(2, 9, 6, 11)).astype(np.float32)
    corners = np.array([[0, 0, 0], [8, 5, 10], [0, 5, 0]])
    points = np.concatenate([corners, generator.integers(0, volume.shape[1:], size=(10, 3))])
    source = PatchSource(torch.from_numpy(volume), edge=edge, local=True, mid_range=True)
    patches = source.gather(torch.from_numpy(points)).numpy()
    assert patches.shape == (13, 4, edge, edge, edge)
    for patch, point in zip(patches, points, strict=True):
        np.testing.assert_array_equal(patch[:2], slow_patch(volume, point, edge // 2, edge))
        large = slow_patch(volume, point, edge, 2 * edge)
        pooled = large.reshape(2, edge, 2, edge, 2, edge, 2).mean(axis=(2, 4, 6))
        np.testing.assert_allclose(patch[2:], pooled, atol=1e-6)


def test_only_requested_patches_are_gathered() -> None:
    volume = torch.rand(3, 5, 5, 5)
    points = torch.tensor([[2, 2, 2]])
    local = PatchSource(volume, edge=5, local=True, mid_range=False).gather(points)
    assert torch.equal(local[0], volume)
    assert PatchSource(volume, edge=5, local=False, mid_range=True).gather(points).shape == (1, 3, 5, 5, 5)
