"""Voxels of another grid than the network's: where they lie, and that the network is queried right there."""

from dataclasses import replace

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nibabel.affines import apply_affine
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform

from ossnet.data import Geometry
from ossnet.errors import UserError
from ossnet.inference import InferenceConfig, predict_volume
from ossnet.inference.query.grid import QueryGrid, interpolate_patches, resample_image, with_spacing
from ossnet.models import build_network
from ossnet.sampling import SamplingConfig
from ossnet.sampling.patches import PatchSource

SHAPE = (9, 12, 6)


def geometry(
    shape: tuple[int, int, int] = SHAPE, codes: str = "RAS", spacing: tuple[float, ...] = (1.0, 1.5, 3.0)
) -> Geometry:
    swap = ornt_transform(axcodes2ornt(("R", "A", "S")), axcodes2ornt(tuple(codes)))
    affine = np.diag([*spacing, 1.0]) @ inv_ornt_aff(swap, (40, 30, 20))
    rows = tuple(tuple(row) for row in affine.tolist())
    sizes = np.linalg.norm(affine[:3, :3], axis=0).tolist()
    whole = Geometry(shape, rows, rows, 1, rows, 1, (sizes[0], sizes[1], sizes[2]), ("mm", "sec"), shape)
    return whole.resampled_to(None)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SLA"])
def test_another_spacing_covers_the_same_space(codes: str) -> None:
    before, after = geometry(codes=codes), with_spacing(geometry(codes=codes), (0.5, 0.5, 1.0))
    assert nibabel.aff2axcodes(np.array(after.affine)) == tuple(codes)
    np.testing.assert_allclose(after.spacing, (0.5, 0.5, 1.0), rtol=1e-12)
    for corner in np.array(np.meshgrid(*[[0, 1]] * 3)).reshape(3, -1).T:
        ends = [np.array(each.shape) * corner - 0.5 for each in (before, after)]
        worlds = [apply_affine(each.affine, end) for each, end in zip((before, after), ends, strict=True)]
        np.testing.assert_allclose(*worlds, atol=1e-9)
    assert after.sform == after.affine == after.qform
    np.testing.assert_allclose(after.zooms, np.linalg.norm(np.array(after.affine)[:3, :3], axis=0))


def test_of_a_cut_file_what_lies_inside_the_cut() -> None:
    cut = replace(geometry(), box=((2, 7), (3, 9), (1, 5))).resampled_to(None)
    finer = with_spacing(cut, (0.5, 0.5, 1.0))
    assert finer.box == ((4, 14), (9, 27), (3, 15))
    coarser = with_spacing(cut, (9.0, 18.0, 18.0))
    assert coarser.shape == coarser.canonical_shape == (1, 1, 1)


def test_too_fine_a_spacing_is_rejected() -> None:
    with pytest.raises(UserError, match=r"at most 4294967296 voxels, found 9000 x 18000 x 18000"):
        with_spacing(geometry(), (0.001, 0.001, 0.001))


@given(
    st.sampled_from(["RAS", "LPI", "AIL"]),
    st.tuples(*[st.sampled_from([0.4, 1.0, 1.7, 5.0])] * 3),
    st.tuples(*[st.sampled_from([0.7, 1.0, 2.0])] * 3),
)
def test_positions_lie_where_their_voxels_lie(codes: str, working: tuple, finer: tuple) -> None:
    """A voxel's place in the image and its own index are the same point in mm."""
    image, result = (
        geometry(codes=codes).resampled_to(working),
        with_spacing(geometry(codes=codes), finer),
    )
    grid = QueryGrid.over(image, result)
    voxels = torch.cartesian_prod(*(torch.tensor([0, edge - 1]) for edge in grid.shape))
    there = apply_affine(image.working_affine, grid.positions(voxels).double().numpy())
    expected = apply_affine(result.working_affine, voxels.numpy())
    np.testing.assert_allclose(there, expected, atol=5.0 / 4096)
    same = QueryGrid.over(image, image)
    assert same.between == ()
    assert torch.equal(same.positions(voxels), voxels.float())


def test_patches_between_voxels_are_linear() -> None:
    """Of an evenly rising image whatever is queried is on the slope; at voxels they are the plain ones."""
    image = torch.stack(torch.meshgrid(*(torch.arange(16.0) for _ in range(3)), indexing="ij"))
    source = PatchSource(image, edge=3, local=True, mid_range=True)
    places = torch.tensor([[6.25, 7.0, 8.5], [7.75, 8.125, 7.0]])
    found = interpolate_patches(source, places, image.shape[1:], (0, 1, 2))
    centers = found[:, :3, 1, 1, 1]
    torch.testing.assert_close(centers, places)
    torch.testing.assert_close(found[:, 0, 2, 1, 1], places[:, 0] + 1)
    voxels = torch.tensor([[0, 15, 3], [4, 5, 6]])
    assert torch.equal(
        interpolate_patches(source, voxels.float(), image.shape[1:], ()), source.gather(voxels)
    )
    grid = QueryGrid((2, 3, 4), (6.25, 7.0, 8.5), (1.0, 0.5, 0.25))
    fine = resample_image(image, grid)
    assert fine.shape == (3, 2, 3, 4)
    torch.testing.assert_close(fine[:, 1, 2, 3], torch.tensor([7.25, 8.0, 9.25]))


@pytest.mark.parametrize("method", ["dense", "hierarchical"])
@pytest.mark.parametrize("name", ["o-net", "oss-net-d", "feature-query-patch", "feature-pyramid"])
def test_where_voxels_coincide_decisions_do(name: str, method: str) -> None:
    """Each third voxel of a grid three times finer is one of the image's."""
    torch.manual_seed(0)
    sizes = {"encoder_channels": (4, 8), "latent_grid": (2, 2, 2), "decoder_width": 16, "decoder_blocks": 2}
    network = build_network(name, classes=2, patch_edge=3, **sizes)
    image, working = torch.randn(1, *SHAPE), SamplingConfig(working_shape=(16, 16, 8))
    settings = InferenceConfig(method, points_per_chunk=700, dense_max_voxels=0)
    plain = predict_volume(network, image, sampling=working, settings=settings)
    finer = QueryGrid.over(geometry(), with_spacing(geometry(), (1 / 3, 0.5, 1.0)))
    fine = predict_volume(network, image, sampling=working, settings=settings, grid=finer)
    assert fine.classes.shape == tuple(3 * edge for edge in SHAPE)
    same = fine.classes[1::3, 1::3, 1::3] == plain.classes
    assert same.float().mean() > 0.99  # matrix products of other sizes round otherwise


def test_unets_decide_their_own_grid_only() -> None:
    network = build_network("unet-3d", channels=(4, 8), residual_units=1)
    grid = QueryGrid((2, 2, 2), (0.0, 0.0, 0.0), (2.0, 2.0, 2.0))
    sampling = SamplingConfig(working_shape=(16, 16, 8))
    with pytest.raises(ValueError, match="decides anywhere, found a dense one"):
        predict_volume(
            network, torch.zeros(1, 9, 9, 6), sampling=sampling, settings=InferenceConfig(), grid=grid
        )
