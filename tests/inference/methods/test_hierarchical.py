"""Coarse to fine against dense, with networks that decide by a known function of the place."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from quick_network import lesions, small_config, teach
from scipy import ndimage
from torch import Tensor

from ossnet.inference import InferenceConfig, predict_volume
from ossnet.inference.config import Method
from ossnet.inference.methods.hierarchical import Audit
from ossnet.models import OccupancyConfig, OccupancyNetwork
from ossnet.sampling import SamplingConfig

CONFIG = OccupancyConfig(
    classes=3,
    encoder_channels=(2,),
    encoder_downscale=1,
    latent_grid=(2, 2, 2),
    local_patch=False,
    auxiliary_head=False,
    decoder_width=4,
    decoder_blocks=1,
)


class Known(OccupancyNetwork):
    """Class logits from voxel indices of the working grid; counts the points it was queried."""

    def __init__(self, classes_of: Callable[[Tensor], Tensor]) -> None:
        super().__init__(CONFIG)
        self.classes_of = classes_of
        self.n_queried = 0

    def decode(
        self, latent: object, coordinates: Tensor, patches: Tensor | None, grid_shape: Sequence[int]
    ) -> Tensor:
        self.n_queried += coordinates.shape[1]
        edges = torch.tensor(grid_shape) - 1
        voxels = ((coordinates[0] + 1) / 2 * edges).round().long()
        return 20 * torch.nn.functional.one_hot(self.classes_of(voxels), 4).float()[None]


class KnownRegions(Known):
    """A logit a region, from codes of a bit each."""

    def __init__(self, codes: np.ndarray) -> None:
        table = torch.from_numpy(codes).long()
        super().__init__(lambda voxels: table[voxels.unbind(1)])
        self.config = replace(CONFIG, classes=2, overlapping=True)

    def decode(
        self, latent: object, coordinates: Tensor, patches: Tensor | None, grid_shape: Sequence[int]
    ) -> Tensor:
        logits = super().decode(latent, coordinates, patches, grid_shape).argmax(2)
        return torch.stack([20 * ((logits >> bit) & 1) - 10.0 for bit in range(2)], 2)


def of_volume(classes: np.ndarray) -> Known:
    table = torch.from_numpy(classes).long()
    return Known(lambda voxels: table[voxels.unbind(1)])


def both(
    network: Known, shape: tuple[int, int, int], chunk: int = 1000, method: Method = "hierarchical"
) -> tuple[Tensor, Tensor, float]:
    """Classes by the dense and by another method, and the share of voxels that the latter queried."""
    image = torch.zeros(1, *shape)
    sampling = SamplingConfig(working_shape=shape)
    dense = InferenceConfig("dense", points_per_chunk=chunk, dense_max_voxels=0)
    expected = predict_volume(network, image, sampling=sampling, settings=dense).classes
    network.n_queried = 0
    found = predict_volume(network, image, sampling=sampling, settings=replace(dense, method=method))
    assert found.n_queried == network.n_queried
    return expected, found.classes, network.n_queried / expected.numel()


def blobs(shape: tuple[int, int, int], sigma: float, seed: int, threshold: float = 0.5) -> np.ndarray:
    """Two nested classes with smooth, irregular borders."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), sigma, mode="wrap")
    noise /= noise.std()
    return (noise > threshold).astype(np.uint8) + (noise > threshold + 0.6)


def hidden_components(dense: np.ndarray) -> np.ndarray:
    """Connected components of one class that hold no point of the lattice."""
    hidden = np.zeros(dense.shape, bool)
    for index in range(4):
        components, count = ndimage.label(dense == index, np.ones((3, 3, 3)))
        seen = np.unique(components[::2, ::2, ::2])
        hidden |= np.isin(components, np.setdiff1d(np.arange(1, count + 1), seen))
    return hidden


@pytest.mark.parametrize("shape", [(33, 40, 29), (16, 16, 16), (5, 6, 50), (3, 2, 1)])
def test_nested_balls_of_any_size_are_exact(shape: tuple[int, int, int]) -> None:
    places = np.indices(shape) - np.reshape(shape, (3, 1, 1, 1)) / 2
    distance = np.sqrt((places**2).sum(0))
    classes = (distance < min(shape) * 0.45).astype(np.uint8) + (distance < min(shape) * 0.3)
    expected, found, _ = both(of_volume(classes), shape)
    assert torch.equal(expected, torch.from_numpy(classes))
    assert torch.equal(found, expected)


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.floats(0.7, 6.0), st.integers(500, 20000))
def test_differs_from_dense_only_by_hidden_components(seed: int, sigma: float, chunk: int) -> None:
    expected, found, _ = both(of_volume(blobs((26, 31, 22), sigma, seed)), (26, 31, 22), chunk)
    wrong = (expected != found).numpy()
    assert not (wrong & ~hidden_components(expected.numpy())).any()


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.floats(0.7, 6.0), st.integers(500, 20000))
def test_regions_differ_from_dense_only_by_hidden_components(seed: int, sigma: float, chunk: int) -> None:
    """Two regions that overlap in part, nested in neither way."""
    shape = (26, 31, 22)
    first, second = (blobs(shape, sigma, each) > 0 for each in (seed, seed + 1))
    codes = first + 2 * second.astype(np.uint8)
    expected, found, _ = both(KnownRegions(codes), shape, chunk)
    assert torch.equal(expected, torch.from_numpy(codes))
    wrong = (expected != found).numpy()
    assert not (wrong & ~hidden_components(codes)).any()


def test_queries_a_fraction_of_the_voxels() -> None:
    expected, found, share = both(of_volume(blobs((64, 64, 64), 9.0, 1, 1.0)), (64, 64, 64), 2**14)
    assert torch.equal(expected, found)
    assert share < 0.45


def test_nothing_there_costs_the_lattice_and_the_audit() -> None:
    expected, found, share = both(of_volume(np.zeros((32, 32, 32), np.uint8)), (32, 32, 32))
    assert torch.equal(expected, found)
    assert share == 1 / 8 + 2048 / 32**3


def test_the_paper_misses_what_hides_between_lattice_points() -> None:
    classes = np.zeros((16, 16, 16), np.uint8)
    classes[5:8, 5:8, 5:8] = 1
    expected, found, _ = both(of_volume(classes), (16, 16, 16))
    assert torch.equal(found, expected)
    _, found, share = both(of_volume(classes), (16, 16, 16), method="paper")
    assert found.sum() == 0
    assert share == 1 / 64


def test_the_paper_finds_what_is_large() -> None:
    places = np.indices((33, 29, 31)) - np.reshape([16, 14, 15], (3, 1, 1, 1))
    classes = (np.sqrt((places**2).sum(0)) < 9).astype(np.uint8)
    expected, found, share = both(of_volume(classes), (33, 29, 31), method="paper")
    assert (expected != found).sum() < 0.01 * expected.sum()  # tips two voxels off
    assert classes.mean() < share < 0.5


def test_a_wrong_voxel_in_the_audit_makes_it_dense() -> None:
    """Single voxels off the lattice, which nothing around them shows."""
    classes = np.zeros((24, 24, 24), np.uint8)
    classes[1::4, 1::4, 1::4] = 1
    expected, found, share = both(of_volume(classes), (24, 24, 24))
    assert torch.equal(found, expected)
    assert share == 1


@pytest.mark.parametrize(("seed", "auxiliary"), [(0, True), (1, False)])
def test_small_lesions_of_a_trained_network_are_all_found(seed: int, auxiliary: bool) -> None:
    """Lesions of 2 to 40 voxels; the paper's algorithms lose most of them."""
    image, mask = lesions((48, 48, 40), 12, seed)
    network, grid = teach(small_config(auxiliary_head=auxiliary), image, mask, steps=50)
    found = {
        method: predict_volume(
            network,
            torch.from_numpy(image),
            sampling=SamplingConfig(working_shape=grid),
            settings=InferenceConfig(method, dense_max_voxels=0),
        )
        for method in ("dense", "hierarchical", "paper")
    }
    dense = found["dense"].classes.numpy()
    assert lost(dense, found["hierarchical"].classes.numpy()) == 0
    assert np.count_nonzero(dense != found["hierarchical"].classes.numpy()) <= 0.001 * np.count_nonzero(dense)
    assert lost(dense, found["paper"].classes.numpy()) > 5
    audit = found["hierarchical"].audit
    assert audit is not None
    assert audit.error_bound < 0.002 or found["hierarchical"].n_queried == dense.size


def test_small_lesions_of_a_real_scan_are_all_found(shared: Path) -> None:
    """Lesions of multiple sclerosis, by a network that was hardly trained on them."""
    folder = shared / "data" / "ms_lesion" / "patient19"
    box = (slice(60, 124), slice(80, 144), slice(70, 118))
    mask = np.asarray(nibabel.load(folder / "GOLD_STANDARD.nii.gz").dataobj)[box].astype(np.uint8)
    scans = [np.asarray(nibabel.load(folder / f"{name}.nii.gz").dataobj)[box] for name in ("FLAIR", "T1")]
    image = np.stack([(scan - scan.mean()) / scan.std() for scan in scans]).astype(np.float32)
    network, grid = teach(small_config(channels=2), image, mask, steps=60)
    found = {
        method: predict_volume(
            network,
            torch.from_numpy(image),
            sampling=SamplingConfig(working_shape=grid),
            settings=InferenceConfig(method, dense_max_voxels=0),
        ).classes.numpy()
        for method in ("dense", "hierarchical", "paper-guided")
    }
    dense = found["dense"]
    assert ndimage.label(dense, np.ones((3, 3, 3)))[1] > 5
    assert lost(dense, found["hierarchical"]) == 0
    assert np.count_nonzero(dense != found["hierarchical"]) <= 0.001 * np.count_nonzero(dense)
    assert lost(dense, found["paper-guided"]) > 2


def lost(dense: np.ndarray, found: np.ndarray) -> int:
    """The number of connected components of which nothing is left."""
    components, count = ndimage.label(dense, np.ones((3, 3, 3)))
    return count - len(np.unique(components[(dense > 0) & (found > 0)]))


def test_small_volumes_are_decided_densely() -> None:
    """A single voxel that nothing shows, and that no lattice point or drawn voxel need be."""
    classes = np.zeros((20, 24, 22), np.uint8)
    classes[7, 11, 13] = 1
    image, sampling = torch.zeros(1, *classes.shape), SamplingConfig(working_shape=classes.shape)
    found = predict_volume(of_volume(classes), image, sampling=sampling, settings=InferenceConfig())
    assert torch.equal(found.classes, torch.from_numpy(classes))
    assert found.n_queried == classes.size
    assert found.audit == Audit(skipped=0, drawn=0, wrong=0)
    assert found.audit.error_bound == 0.0


def test_probabilities_are_dense() -> None:
    network = of_volume(np.zeros((16, 16, 16), np.uint8))
    predict_volume(
        network,
        torch.zeros(1, 16, 16, 16),
        sampling=SamplingConfig(working_shape=(16, 16, 16)),
        settings=InferenceConfig(method="hierarchical"),
        with_probabilities=True,
    )
    assert network.n_queried == 16**3
