"""Patches from read-only float16, mirrored or not, equal a plain loop's and those of inference."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from slow_patch import slow_patch

from ossnet.sampling import gather
from ossnet.sampling.gather import gather_patches
from ossnet.sampling.patches import PatchSource
from ossnet.sampling.transforms import planes
from ossnet.sampling.transforms.planes import as_tensor

MIRRORED = st.sampled_from([(), (0,), (1,), (0, 1)])


def stored(shape: tuple[int, ...], seed: int, dtype: str = "float16") -> np.ndarray:
    volume = np.random.default_rng(seed).normal(size=shape).astype(dtype)
    volume.setflags(write=False)
    return volume


def mirror(volume: np.ndarray, mirrored: tuple[int, ...]) -> np.ndarray:
    return np.flip(volume, [axis + 1 for axis in mirrored])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("edge", [3, 5, 7, 9, 11])
def test_patches_equal_a_loop_over_voxels(edge: int) -> None:
    given_volume = stored((2, 9, 6, 13), edge)
    volume = mirror(given_volume, (0,))
    generator = np.random.default_rng(edge)
    corners = np.array([[x, y, z] for x in (0, 8) for y in (0, 5) for z in (0, 12)])
    points = np.concatenate([corners, generator.integers(0, volume.shape[1:], size=(6, 3))])
    local, mid_range = (
        torch.empty(14, 2, edge, edge, edge, dtype=dtype) for dtype in (torch.float16, torch.float32)
    )
    gather_patches(as_tensor(given_volume), (0,), torch.from_numpy(points), local=local, mid_range=mid_range)
    patches = torch.cat([local.float(), mid_range], 1)
    for patch, point in zip(patches.numpy(), points, strict=True):
        np.testing.assert_array_equal(patch[:2], slow_patch(volume, point, edge // 2, edge))
        large = slow_patch(volume, point, edge, 2 * edge)
        pooled = large.reshape(2, edge, 2, edge, 2, edge, 2).mean(axis=(2, 4, 6))
        np.testing.assert_allclose(patch[2:], pooled, atol=1e-6)


@given(
    shape=st.tuples(st.integers(1, 3), *[st.integers(1, 24)] * 3),
    edge=st.sampled_from([3, 5, 7, 9, 11]),
    mirrored=MIRRORED,
    kinds=st.sampled_from([(True, False), (False, True), (True, True)]),
    dtype=st.sampled_from(["float16", "float32"]),
    seed=st.integers(0, 99),
)
def test_training_and_inference_see_the_same_patches(
    shape: tuple[int, int, int, int],
    edge: int,
    mirrored: tuple[int, ...],
    kinds: tuple[bool, bool],
    dtype: str,
    seed: int,
) -> None:
    given_volume = stored(shape, seed, dtype)
    volume = mirror(given_volume, mirrored)
    points = np.random.default_rng(seed).integers(0, shape[1:], size=(300, 3))
    asked = {"local": kinds[0], "mid_range": kinds[1]}
    rooms = {kind: torch.empty(300, shape[0], edge, edge, edge) if asked[kind] else None for kind in asked}
    source = PatchSource(torch.from_numpy(volume.astype(np.float32)), edge=edge, **asked)
    expected = source.gather(torch.from_numpy(points))
    for on_cpu in (True, False):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(planes, "on_cpu", lambda _, on_cpu=on_cpu: on_cpu)
            patched.setattr(gather, "PART_BYTES", 1 << 20)
            gather_patches(as_tensor(given_volume), mirrored, torch.from_numpy(points), **rooms)
        found = torch.cat([room for room in rooms.values() if room is not None], 1)
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
