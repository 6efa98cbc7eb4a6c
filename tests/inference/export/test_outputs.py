"""What is written in addition to the label map, on the scan's grid; and what predicting does not import."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import trimesh

from ossnet.data import Geometry
from ossnet.data.labels.scheme import ClassScheme
from ossnet.inference.config import ExportConfig
from ossnet.inference.export.outputs import entropy, export
from ossnet.inference.predictor import Segmentation

SCAN = Path("scan.nii.gz")
AFFINE = np.array([[0, 0, 2.0, -10], [-1.5, 0, 0, 30], [0, 1.0, 0, 5], [0, 0, 0, 1]])


@pytest.fixture
def segmentation() -> Segmentation:
    """Two regions, the second inside the first, and a third that is nowhere."""
    codes = np.zeros((20, 18, 16), np.uint8)
    codes[3:15, 3:15, 3:13] = 1
    codes[4:14, 4:14, 4:12] |= 2
    rows = tuple(tuple(row) for row in AFFINE.tolist())
    geometry = Geometry(
        shape=codes.shape,
        affine=rows,
        sform=rows,
        sform_code=1,
        qform=None,
        qform_code=0,
        zooms=(1.5, 1.0, 2.0),
        units=("mm", "sec"),
        working_shape=(16, 20, 18),
    )
    probabilities = {name: np.full(codes.shape, 0.25, np.float32) for name in ("whole", "core", "none")}
    return Segmentation(
        labels=codes,
        geometry=geometry,
        volumes_ml={"whole": 12 * 12 * 10 * 3 / 1000, "core": 10 * 10 * 8 * 3 / 1000, "none": 0.0},
        probabilities=probabilities,
        codes=codes,
        scheme=ClassScheme(3, overlapping=True, names=tuple(probabilities)),
    )


def test_writes_what_was_requested(segmentation: Segmentation, tmp_path: Path) -> None:
    written = export(
        segmentation, "a", tmp_path, ExportConfig(probabilities=True, mesh="ply", volumes=True), source=SCAN
    )
    names = ["a_whole_prob.nii.gz", "a_core_prob.nii.gz", "a_none_prob.nii.gz", "a_whole.ply", "a_core.ply"]
    assert [path.name for path in written] == [*names, "a_volumes.json"]
    assert set(written) == set(tmp_path.iterdir())
    image = nib.load(written[1])
    assert np.allclose(image.affine, AFFINE)
    assert np.allclose(image.get_fdata(), 0.25)
    volumes = json.loads(written[-1].read_text())["volumes"]
    assert volumes == segmentation.volumes_ml
    for name in ("whole", "core"):
        mesh = trimesh.load_mesh(tmp_path / f"a_{name}.ply")
        assert mesh.is_watertight
        assert mesh.volume / 1000 == pytest.approx(volumes[name], rel=0.02)


def test_uncertainty_is_the_entropy_of_the_most_uncertain_region(
    segmentation: Segmentation, tmp_path: Path
) -> None:
    certain = np.where(np.indices(segmentation.labels.shape)[0] < 10, 0.5, 1.0).astype(np.float32)
    probabilities = {"whole": certain, "core": certain * 0, "none": certain * 0 + 0.1}
    uncertain = replace(segmentation, probabilities=probabilities)
    (path,) = export(uncertain, "a", tmp_path, ExportConfig(uncertainty=True), source=SCAN)
    assert path.name == "a_uncertainty.nii.gz"
    values, tenth = nib.load(path).get_fdata(), -0.1 * np.log2(0.1) - 0.9 * np.log2(0.9)
    np.testing.assert_allclose(values[:10], 1.0, atol=1e-6)
    np.testing.assert_allclose(values[10:], tenth, atol=1e-6)


def test_uncertainty_of_classes_that_exclude_one_another() -> None:
    even = [np.full((2, 2, 2), 1 / 3, np.float32)] * 2
    np.testing.assert_allclose(entropy(even, ClassScheme(2)), 1.0, atol=1e-6)
    one = [np.full((2, 2, 2), share, np.float32) for share in (0.5, 0.5)]
    np.testing.assert_allclose(entropy(one, ClassScheme(2)), 1 / np.log2(3), atol=1e-6)
    assert (entropy([one[0] * 0, one[0] * 2], ClassScheme(2)) == 0).all()


def test_nothing_is_written_unrequested(segmentation: Segmentation, tmp_path: Path) -> None:
    assert export(segmentation, "a", tmp_path, ExportConfig(), source=SCAN) == []
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="smoothing"):
        ExportConfig(smoothing=-1)


def test_predicting_imports_no_orchestration() -> None:
    run = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "from ossnet.inference import Predictor"],
        capture_output=True,
        text=True,
        check=True,
    )
    modules = {line.rpartition("|")[2].strip().partition(".")[0] for line in run.stderr.splitlines()}
    assert "torch" in modules
    assert not modules & {"ray", "mlflow", "optuna", "monai", "matplotlib", "skimage", "trimesh"}
