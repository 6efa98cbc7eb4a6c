"""From a checkpoint to labels on a scan's own grid, with networks whose answer is known beforehand."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from torch import Tensor

from ossnet.config_tree import to_dict
from ossnet.data import Task
from ossnet.errors import UserError
from ossnet.inference import InferenceConfig, Predictor
from ossnet.models import OccupancyConfig, OccupancyNetwork, network_from_config
from ossnet.sampling import SamplingConfig
from ossnet.training.checkpoint import save_checkpoint

CONFIG = OccupancyConfig(
    encoder_channels=(4,),
    latent_grid=(2, 2, 2),
    decoder_width=8,
    decoder_blocks=1,
    patch_edge=3,
    encoder_downscale=1,
)
TASK = Task(modalities=("MR",), labels={"bright": 5}, normalization="zscore")


class Brighter(OccupancyNetwork):
    """Foreground where the patch's middle voxel is above the mean."""

    def decode(
        self, latent: object, coordinates: Tensor, patches: Tensor | None, grid_shape: Sequence[int]
    ) -> Tensor:
        assert patches is not None
        middle = patches.shape[-1] // 2
        return patches[:, :, :1, middle, middle, middle]


class RightHalf(OccupancyNetwork):
    """Foreground on the right of the working grid's middle."""

    def decode(
        self, latent: object, coordinates: Tensor, patches: Tensor | None, grid_shape: Sequence[int]
    ) -> Tensor:
        return coordinates[:, :, :1] - 1e-6


def predictor(network: OccupancyNetwork, task: Task = TASK) -> Predictor:
    return Predictor(network.eval(), task, SamplingConfig(working_shape=(8, 8, 8)), InferenceConfig("dense"))


@pytest.mark.parametrize("codes", ["RAS", "LPI", "SPR"])
@pytest.mark.parametrize("spacing", [None, (1.0, 1.5, 3.0)])
def test_what_cropping_cuts_off_is_background(
    codes: str, spacing: Sequence[float] | None, tmp_path: Path
) -> None:
    array = np.zeros((9, 7, 5), np.float32)
    array[2:7, 1:4, 2:] = np.random.default_rng(0).normal(100, 20, (5, 3, 3))
    path = write(tmp_path / "scan.nii.gz", array, oblique(codes))
    task = replace(TASK, crop=0.0, spacing=spacing and tuple(spacing))
    inside = np.zeros(array.shape, bool)
    inside[2:7, 1:4, 2:] = True
    for images in (path, (array, oblique(codes))):
        result = predictor(Brighter(CONFIG), task)(images, with_probabilities=True)
        assert result.labels.shape == array.shape
        expected = (array > array[inside].mean(dtype=float)) & inside
        assert np.array_equal(result.labels, np.where(expected, 5, 0))
        np.testing.assert_allclose(result.affine, oblique(codes), atol=1e-5)
        assert result.probabilities is not None
        assert not result.probabilities["bright"][~inside].any()


def write(path: Path, array: np.ndarray, affine: np.ndarray) -> Path:
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return path


def oblique(codes: str, spacing: Sequence[float] = (1.0, 1.5, 3.0), angle: float = 0.2) -> np.ndarray:
    """An affine of any axis order, rotated about the patient's long axis, off the origin."""
    start = nibabel.orientations.axcodes2ornt(("R", "A", "S"))
    swap = nibabel.orientations.ornt_transform(start, nibabel.orientations.axcodes2ornt(tuple(codes)))
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    turn[:3, 3] = (11, -7, 5)
    return turn @ np.diag([*spacing, 1]) @ nibabel.orientations.inv_ornt_aff(swap, (6, 7, 8))


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SLA", "IPL"])
def test_labels_land_on_the_voxels_they_were_decided_from(codes: str, tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(100, 20, (9, 7, 5)).astype(np.float32)
    path = write(tmp_path / "scan.nii.gz", array, oblique(codes))
    result = predictor(Brighter(CONFIG))(path)
    assert np.array_equal(result.labels, np.where(array > array.mean(dtype=float), 5, 0))
    assert result.labels.dtype == np.uint8
    np.testing.assert_allclose(result.affine, oblique(codes), atol=1e-5)
    milliliters = np.count_nonzero(result.labels) * 1.0 * 1.5 * 3.0 / 1000
    assert result.volumes_ml == pytest.approx({"bright": milliliters})


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SLA"])
def test_the_networks_right_is_the_patients(codes: str, tmp_path: Path) -> None:
    affine = oblique(codes, angle=0.0)
    path = write(tmp_path / "scan.nii", np.random.default_rng(0).random((6, 4, 8), np.float32), affine)
    result = predictor(RightHalf(CONFIG))(path)
    world = nibabel.affines.apply_affine(affine, np.argwhere(np.ones(result.labels.shape)))
    right = (world[:, 0] > (world[:, 0].min() + world[:, 0].max()) / 2).reshape(result.labels.shape)
    assert np.array_equal(result.labels > 0, right)


def test_a_saved_segmentation_has_the_scans_header(tmp_path: Path) -> None:
    path = write(tmp_path / "scan.nii.gz", np.random.default_rng(0).random((6, 7, 8)), oblique("LPS"))
    predictor(Brighter(CONFIG))(path).save(tmp_path / "out" / "scan_seg.nii.gz")
    scan, saved = nibabel.load(path), nibabel.load(tmp_path / "out" / "scan_seg.nii.gz")
    assert saved.shape == scan.shape
    assert np.array_equal(saved.affine, scan.affine)
    assert saved.get_data_dtype() == np.uint8
    for name in ("sform_code", "qform_code", "xyzt_units", "pixdim"):
        assert np.array_equal(saved.header[name], scan.header[name]), name
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["scan_seg.nii.gz"]


@pytest.mark.parametrize(
    "name",
    ["orient_RAS", "orient_LPS", "orient_PLI", "orient_SAL", "orient_ARS", "orient_IPR", "FLAIR", "shear"],
)
def test_real_headers(name: str, shared: Path) -> None:
    path = shared / "data" / "headers" / f"{name}.nii.gz"
    if not path.is_file():
        pytest.skip(f"no {path.name}")
    scan = nibabel.load(path)
    values = np.asarray(scan.dataobj, np.float32)
    result = predictor(Brighter(CONFIG))(path)
    apart = np.abs(values - values.mean(dtype=float)) > 1e-3 * values.std()
    assert np.array_equal((result.labels > 0)[apart], (values > values.mean(dtype=float))[apart])
    np.testing.assert_allclose(result.affine, scan.affine, rtol=1e-6, atol=1e-6)


def test_arrays_files_and_4d_files_agree(tmp_path: Path) -> None:
    task = Task(modalities=("one", "two"), labels={"bright": 1}, normalization="zscore-foreground")
    config = OccupancyConfig(**{**to_dict_fields(CONFIG), "in_channels": 2})
    model = predictor(Brighter(config), task)
    affine = oblique("LPS")
    array = np.random.default_rng(0).normal(0, 1, (6, 7, 8, 2)).astype(np.float32)
    four = write(tmp_path / "scan.nii.gz", array, affine)
    paths = [write(tmp_path / f"scan_{i}.nii.gz", array[..., i], affine) for i in range(2)]
    results = [model(four), model(str(four)), model(paths), model((array, affine))]
    for result in results[1:]:
        assert np.array_equal(result.labels, results[0].labels)
        np.testing.assert_allclose(result.affine, results[0].affine, atol=1e-5)
    assert 0 < results[0].labels.mean() < 1


def to_dict_fields(config: OccupancyConfig) -> dict[str, object]:
    values = to_dict(config)
    return {name: tuple(v) if isinstance(v, list) else v for name, v in values.items() if name != "kind"}


def test_resampled_tasks_come_back_to_the_scans_grid(tmp_path: Path) -> None:
    task = Task(modalities=("MR",), labels={"bright": 1}, normalization="zscore", spacing=(1.0, 1.0, 1.0))
    places = np.indices((30, 24, 16)) * np.reshape([2, 2, 3], (3, 1, 1, 1)) - 24
    distance = np.sqrt((places**2).sum(0))  # mm; its mean is the surface of a ball of 26 mm
    path = write(tmp_path / "scan.nii.gz", -distance, np.diag([2, 2, 3, 1.0]))
    result = predictor(Brighter(CONFIG), task)(path)
    expected = distance < distance.mean()
    assert result.labels.shape == expected.shape
    shared_voxels = np.count_nonzero((result.labels > 0) & expected)
    assert 2 * shared_voxels / (np.count_nonzero(result.labels) + np.count_nonzero(expected)) > 0.95


def test_probabilities_on_request(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(6, 7, 8))
    path = write(tmp_path / "scan.nii.gz", array, oblique("LPS"))
    model = predictor(Brighter(CONFIG))
    assert model(path).probabilities is None
    result = model(path, with_probabilities=True)
    assert result.probabilities is not None
    assert np.array_equal(result.probabilities["bright"] > 0.5, result.labels > 0)


class TwoThresholds(OccupancyNetwork):
    """Two regions: where the patch's middle voxel is above the mean, and where it is above or below 1."""

    inner = 1.0

    def decode(
        self, latent: object, coordinates: Tensor, patches: Tensor | None, grid_shape: Sequence[int]
    ) -> Tensor:
        assert patches is not None
        middle = patches[:, :, 0, *[patches.shape[-1] // 2] * 3]
        return torch.stack([middle, (middle - 1) * self.inner], 2)


class Apart(TwoThresholds):
    """The second one is below 1, so that neither holds the other."""

    inner = -1.0


REGIONS = OccupancyConfig(**{**to_dict_fields(CONFIG), "classes": 2, "overlapping": True})


def test_nested_regions_become_one_label_map(tmp_path: Path) -> None:
    task = Task(
        modalities=("MR",),
        labels={"rim": 5, "core": 7},
        normalization="zscore",
        regions={"tumour": ("rim", "core"), "core": ("core",)},
    )
    array = np.random.default_rng(0).normal(100, 20, (9, 7, 5)).astype(np.float32)
    path = write(tmp_path / "scan.nii.gz", array, oblique("PIR"))
    result = predictor(TwoThresholds(REGIONS), task)(path, with_probabilities=True)
    score = (array - array.mean(dtype=float)) / array.std(dtype=float, ddof=1)
    np.testing.assert_array_equal(result.labels, np.select([score > 1, score > 0], [7, 5], 0))
    voxel = 1.0 * 1.5 * 3.0 / 1000
    volumes = {"tumour": (score > 0).sum() * voxel, "core": (score > 1).sum() * voxel}
    assert result.volumes_ml == pytest.approx(volumes)
    assert result.probabilities is not None
    np.testing.assert_array_equal(result.probabilities["core"] > 0.5, score > 1)
    result.save(tmp_path / "out" / "scan_seg.nii.gz")
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["scan_seg.nii.gz"]


def test_regions_that_do_not_nest_become_a_file_each(tmp_path: Path) -> None:
    task = Task(
        modalities=("MR",),
        labels={"a": 1, "b": 2, "c": 3},
        normalization="zscore",
        regions={"high": ("a", "b"), "low": ("b", "c")},
    )
    array = np.random.default_rng(0).normal(100, 20, (9, 7, 5)).astype(np.float32)
    path = write(tmp_path / "scan.nii.gz", array, oblique("PIR"))
    predictor(Apart(REGIONS), task)(path).save(tmp_path / "out" / "scan_seg.nii.gz")
    score = (array - array.mean(dtype=float)) / array.std(dtype=float, ddof=1)
    saved = {each.name: nibabel.load(each) for each in (tmp_path / "out").iterdir()}
    assert set(saved) == {"scan_seg.nii.gz", "scan_high_seg.nii.gz", "scan_low_seg.nii.gz"}
    for name, inside in (("high", score > 0), ("low", score < 1)):
        image = saved[f"scan_{name}_seg.nii.gz"]
        np.testing.assert_array_equal(np.asarray(image.dataobj), inside)
        np.testing.assert_array_equal(image.affine, nibabel.load(path).affine)
    labels = np.select([(score > 0) & (score < 1), score > 0], [2, 1], 3)
    np.testing.assert_array_equal(np.asarray(saved["scan_seg.nii.gz"].dataobj), labels)


def test_a_network_of_other_classes_than_its_task(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "checkpoint")
    task = Task(("MR",), {"a": 1, "b": 2}, regions={"all": ("a", "b"), "b": ("b",)})
    (folder / "task.json").write_text(json.dumps(task.to_dict()))
    with pytest.raises(UserError, match=r"a network of the classes all, b of task\.json, found 1 classes"):
        Predictor.from_checkpoint(folder)


def checkpoint(folder: Path) -> Path:
    torch.manual_seed(0)
    config = {"model": to_dict(CONFIG), "sampling": to_dict(SamplingConfig(working_shape=(8, 8, 8)))}
    config |= {"inference": to_dict(InferenceConfig()), "training": {"epochs": 1}}
    documents = {"config.json": json.dumps(config), "task.json": json.dumps(TASK.to_dict())}
    save_checkpoint(folder, network=network_from_config(CONFIG), documents=documents, state={})
    return folder


def test_from_checkpoint(tmp_path: Path) -> None:
    path = write(tmp_path / "scan.nii.gz", np.random.default_rng(0).random((6, 7, 8)), oblique("LPS"))
    folder = checkpoint(tmp_path / "checkpoint")
    first, second = (Predictor.from_checkpoint(folder)(path) for _ in range(2))
    assert np.array_equal(first.labels, second.labels)
    assert set(np.unique(first.labels)) <= {0, 5}


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no checkpoint"):
        Predictor.from_checkpoint(tmp_path)
    folder = checkpoint(tmp_path / "checkpoint")
    (folder / "task.json").write_text("{")
    with pytest.raises(UserError, match=r"task\.json"):
        Predictor.from_checkpoint(folder)
    (folder / "task.json").unlink()
    with pytest.raises(UserError, match=r"task\.json"):
        Predictor.from_checkpoint(folder)


@pytest.mark.parametrize(
    ("array", "affine", "message"),
    [
        (np.zeros((3, 4)), np.eye(4), "three axes"),
        (np.zeros((3, 4, 5, 2)), np.eye(4), "1 channels"),
        (np.full((3, 4, 5), np.nan), np.eye(4), "finite"),
        (np.zeros((3, 4, 5)), np.zeros((4, 4)), "inverted"),
    ],
)
def test_arrays_that_are_no_scan(array: np.ndarray, affine: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=message):
        predictor(Brighter(CONFIG))((array, affine))


def test_neither_ray_nor_mlflow_is_imported(tmp_path: Path) -> None:
    """Not by the import, and not by predicting."""
    folder = checkpoint(tmp_path / "checkpoint")
    path = write(tmp_path / "scan.nii.gz", np.random.default_rng(0).random((6, 7, 8)), np.eye(4))
    code = (
        "import sys; from ossnet.inference import Predictor\n"
        f"Predictor.from_checkpoint({str(folder)!r})({str(path)!r})\n"
        "print(sorted({'ray', 'mlflow', 'optuna', 'monai', 'matplotlib', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("codes", ["RAS", "SPL"])
@pytest.mark.parametrize("working", [None, (2.0, 2.0, 2.0)])
def test_a_finer_spacing_is_queried_directly(
    codes: str, working: tuple[float, float, float] | None, tmp_path: Path
) -> None:
    """A ball of values falling from its center: its border is where it is in mm, at twice the resolution."""
    affine = oblique(codes, (1.0, 1.0, 1.0), angle=0.0)
    world = nibabel.affines.apply_affine(affine, np.moveaxis(np.indices((24, 22, 20)), 0, -1))
    distance = np.linalg.norm(world - world.reshape(-1, 3).mean(0), axis=-1)
    task = replace(TASK, spacing=working)
    path = write(tmp_path / "scan.nii.gz", -distance.astype(np.float32), affine)
    model = replace(predictor(Brighter(CONFIG), task), spacing=(0.5, 0.5, 0.5))
    result = model(path)
    assert result.labels.shape == (48, 44, 40)
    fine = nibabel.affines.apply_affine(result.affine, np.moveaxis(np.indices(result.labels.shape), 0, -1))
    there = np.linalg.norm(fine - world.reshape(-1, 3).mean(0), axis=-1) < distance.mean()
    wrong = np.count_nonzero((result.labels > 0) != there)
    assert wrong < (0.01 if working is None else 0.05) * np.count_nonzero(there)
    assert result.volumes_ml["bright"] == pytest.approx(np.count_nonzero(there) / 8000, rel=0.03)
    result.save(tmp_path / "fine.nii.gz")
    np.testing.assert_allclose(nibabel.load(tmp_path / "fine.nii.gz").affine, result.affine, atol=1e-5)


def test_what_spacings_are_rejected(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "checkpoint")
    with pytest.raises(UserError, match="above 0"):
        Predictor.from_checkpoint(folder, spacing=(1.0, 0.0, 1.0))
