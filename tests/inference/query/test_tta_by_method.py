"""Mirror images by every method, on the scan's grid and on a finer one, of classes and of regions."""

from functools import cache

import numpy as np
import pytest
import torch
from quick_network import lesions, small_config, teach
from scipy import ndimage

from ossnet.inference import InferenceConfig, VolumePrediction, predict_volume
from ossnet.inference.config import Axis, Method
from ossnet.inference.query.grid import QueryGrid
from ossnet.inference.query.tta import FlipEnsemble
from ossnet.models import OccupancyNetwork
from ossnet.sampling import SamplingConfig
from ossnet.sampling.grid import Shape

SHAPE = (38, 33, 30)  # odd ones, so that a mirror image lies elsewhere in its frame
FINER = QueryGrid((47, 33, 40), (0.0, 0.0, -0.125), (0.8, 1.0, 0.75))


@cache
def trained(*, overlapping: bool) -> tuple[OccupancyNetwork, Shape, torch.Tensor]:
    """A network that predicts a large shape with a core, and lesions of 2 to 40 voxels."""
    image, codes = lesions(SHAPE, 5, seed=3)
    distance = np.linalg.norm(np.indices(SHAPE) - np.reshape([19, 16, 15], (3, 1, 1, 1)), axis=0)
    codes[distance < 9] = 1
    codes[distance < 5] = 3 if overlapping else 2
    image += 3.0 * (distance < 9) + 3.0 * (distance < 5)
    network, grid = teach(small_config(classes=2, overlapping=overlapping), image, codes, steps=40)
    return network, grid, torch.from_numpy(image)


def predict(
    method: Method, flips: tuple[Axis, ...], *, overlapping: bool, grid: QueryGrid | None
) -> VolumePrediction:
    network, working, image = trained(overlapping=overlapping)
    settings = InferenceConfig(method, flips=flips, dense_max_voxels=0)
    sampling = SamplingConfig(working_shape=working)
    return predict_volume(network, image, sampling=sampling, settings=settings, grid=grid)


@pytest.mark.parametrize(
    ("flips", "overlapping", "grid"),
    [(("R",), False, FINER), (("R",), True, None), (("A", "S"), False, None), (("A", "S"), True, FINER)],
    ids=["R-classes-finer", "R-regions-own", "AS-classes-own", "AS-regions-finer"],
)
def test_flips_by_every_method_are_flips_of_the_dense_one(
    flips: tuple[Axis, ...], overlapping: bool, grid: QueryGrid | None
) -> None:
    """The hierarchical one finds all; the paper's find less, but nothing else, and the large shape whole."""
    dense = predict("dense", flips, overlapping=overlapping, grid=grid).classes.numpy()
    plain = predict("dense", (), overlapping=overlapping, grid=grid).classes.numpy()
    assert np.count_nonzero(dense != plain) > 20  # or the flips would not be seen here
    found = predict("hierarchical", flips, overlapping=overlapping, grid=grid).classes.numpy()
    assert np.count_nonzero(found != dense) <= 0.001 * np.count_nonzero(dense)
    pieces, count = ndimage.label(dense, np.ones((3, 3, 3)))
    assert set(np.unique(pieces[found > 0])) >= set(range(1, count + 1))
    large = pieces == np.bincount(pieces[pieces > 0]).argmax()
    assert np.count_nonzero(large) > 2000
    for method in ("paper", "paper-guided"):
        prediction = predict(method, flips, overlapping=overlapping, grid=grid)
        found = prediction.classes.numpy()
        assert np.count_nonzero((found > 0) & (found != dense)) <= 0.001 * np.count_nonzero(dense)
        assert np.count_nonzero(large & (found != dense)) <= 0.01 * np.count_nonzero(dense)
        assert prediction.n_queried < dense.size


@pytest.mark.parametrize("grid", [None, FINER], ids=["own", "finer"])
def test_the_coarse_prediction_is_of_all_mirror_images(grid: QueryGrid | None) -> None:
    """Where an answer is sought their mean, as of the answers; where ambiguity is, the largest."""
    network, working, image = trained(overlapping=False)
    query = grid or QueryGrid.of_image(SHAPE)
    volumes = [
        FlipEnsemble(network, seen, working=working, chunk=4096, grid=each, flips=())
        for seen, each in ((image, grid), (image.flip(1), query.mirrored((0,), SHAPE)))
    ]
    both = FlipEnsemble(network, image, working=working, chunk=4096, grid=grid, flips=("R",))
    voxels = torch.cartesian_prod(*(torch.arange(0, edge, 5) for edge in query.shape))
    between = torch.stack([each.prior_between(voxels) for each in volumes])
    assert (between[0] - between[1]).abs().max() > 0.01
    torch.testing.assert_close(both.prior_between(voxels), between.mean(0))
    torch.testing.assert_close(
        both.prior_at(voxels), torch.stack([v.prior_at(voxels) for v in volumes]).amax(0)
    )
