import hashlib
from pathlib import Path

import nibabel
import numpy as np
import pytest

from ossnet.data import Task, preprocess, preprocess_label, read_source, write_phantom
from ossnet.errors import UserError

SHAPE = (32, 30, 26)


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    return write_phantom(tmp_path_factory.mktemp("phantom") / "study", cases=6, shape=SHAPE)


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_it_is_an_msd_folder_of_four_modalities(study):
    source = read_source(study)
    assert source.layout == "msd"
    assert source.modalities == ("FLAIR", "T1w", "T1gd", "T2w")
    assert source.labels == {"edema": 1, "non-enhancing": 2, "enhancing": 3}
    assert len(source.cases) == 6
    assert nibabel.load(source.cases[0].images[0]).shape == (*SHAPE, 4)


def test_headers_vary_as_real_ones_do(study):
    images = [nibabel.load(case.images[0]) for case in read_source(study).cases]
    assert len({nibabel.aff2axcodes(image.affine) for image in images}) >= 3
    assert len({(int(image.header["sform_code"]), int(image.header["qform_code"])) for image in images}) >= 3
    assert all(image.header.get_zooms()[:3] == (1, 1, 1) for image in images)


def test_every_case_holds_every_region_inside_the_next(study):
    from scipy.ndimage import binary_dilation

    source = read_source(study)
    task = Task(source.modalities, source.labels)
    for case in source.cases:
        scan = preprocess(case.images, task)
        label = preprocess_label(case.label, task, like=scan.geometry)
        assert scan.image.shape == (4, *SHAPE)
        brain = (scan.image != 0).all(axis=0)
        assert np.unique(label).tolist() == [0, 1, 2, 3]
        assert brain[label > 0].mean() > 0.99
        assert 0.2 < brain.mean() < 0.6
        core = label == 2
        touching = binary_dilation(core) & ~core
        assert (label[touching] == 3).mean() > 0.8  # the core lies inside the enhancing rim
        flair, _, t1gd, _ = scan.image
        assert flair[label == 1].mean() > flair[brain & (label == 0)].mean() + 1
        assert t1gd[label == 3].mean() > t1gd[brain & (label == 0)].mean() + 1


def test_seeds_and_counts(study, tmp_path):
    same = write_phantom(tmp_path / "same", cases=6, shape=SHAPE)
    fewer = write_phantom(tmp_path / "fewer", cases=2, shape=SHAPE)
    other = write_phantom(tmp_path / "other", cases=2, shape=SHAPE, seed=1)
    label = "labelsTr/phantom_001.nii.gz"
    assert contents(same) == contents(study)
    assert contents(fewer)[label] == contents(study)[label]
    assert contents(other)[label] != contents(study)[label]


def test_fewer_modalities_are_the_same_voxels(study, tmp_path):
    whole = np.asarray(nibabel.load(study / "imagesTr" / "phantom_000.nii.gz").dataobj)
    for modalities in (["T2w"], ["T1gd", "FLAIR"]):
        folder = write_phantom(tmp_path / "-".join(modalities), cases=1, shape=SHAPE, modalities=modalities)
        image = np.asarray(nibabel.load(folder / "imagesTr" / "phantom_000.nii.gz").dataobj)
        places = [("FLAIR", "T1w", "T1gd", "T2w").index(modality) for modality in modalities]
        np.testing.assert_array_equal(image.reshape(*SHAPE, -1), whole[..., places])
        assert read_source(folder).modalities == tuple(modalities)


def test_it_is_written_once_and_over_nothing(study, tmp_path):
    before = contents(study)
    assert write_phantom(study, cases=6, shape=SHAPE) == study
    assert contents(study) == before
    with pytest.raises(UserError, match="expected a new folder for the phantom, found something else"):
        write_phantom(study, cases=5, shape=SHAPE)
    with pytest.raises(UserError, match="expected some of FLAIR"):
        write_phantom(tmp_path / "new", modalities=["PET"])
    with pytest.raises(UserError, match="at least 1 case and 8 voxels"):
        write_phantom(tmp_path / "new", shape=(4, 4, 4))
    assert not (tmp_path / "new").exists()


def test_hard_ones_have_more_and_smaller_lesions_of_less_contrast(study, tmp_path):
    from scipy.ndimage import label as components

    hard = write_phantom(tmp_path / "hard", cases=6, shape=SHAPE, hard=True)
    with pytest.raises(UserError, match="expected a new folder"):
        write_phantom(hard, cases=6, shape=SHAPE)
    found = {}
    for folder in (study, hard):
        source = read_source(folder)
        task = Task(source.modalities, source.labels)
        lesions, sizes, contrasts = [], [], []
        for case in source.cases:
            scan = preprocess(case.images, task)
            label = preprocess_label(case.label, task, like=scan.geometry)
            brain = (scan.image != 0).all(axis=0)
            lesions.append(components(label > 0)[1])
            sizes.append((label > 0).sum() / lesions[-1])
            flair = scan.image[0]
            contrasts.append(flair[label > 0].mean() - flair[brain & (label == 0)].mean())
        found[folder] = np.mean([lesions, sizes, contrasts], axis=1)
    (n_easy, size_easy, contrast_easy), (n_hard, size_hard, contrast_hard) = found[study], found[hard]
    assert n_hard > 1.5 * n_easy
    assert size_hard < 0.3 * size_easy
    assert 0 < contrast_hard < 0.7 * contrast_easy
