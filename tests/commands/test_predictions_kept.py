"""What a prediction writes over: what its record proves to be its own, and nothing else."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from ossnet.commands import predict
from ossnet.config import Config
from ossnet.data import Store
from ossnet.models import network_from_config
from ossnet.training.checkpoint import save_checkpoint

Predict = Callable[..., dict[str, dict[str, object]]]


@pytest.fixture(scope="module")
def checkpoint(phantom_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network for the phantom study."""
    store = Store.open(phantom_store)
    small = {"model.encoder_channels": (4, 4), "model.decoder_width": 8, "model.patch_edge": 3}
    config = Config.preset("oss-net-a", store).replace(small).resolve_for(store)
    torch.manual_seed(0)
    documents = {"config.json": config.to_json(), "task.json": json.dumps(store.task.to_dict())}
    folder = tmp_path_factory.mktemp("run") / "checkpoint"
    save_checkpoint(folder, network=network_from_config(config.model), documents=documents, state={})
    return folder


@pytest.fixture
def run(checkpoint: Path, phantom_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Predict:
    """Predict two scans into `out`; the outcomes by case."""
    scans = sorted((phantom_store.parent / "source" / "imagesTr").iterdir())[:2]

    def run(*options: str) -> dict[str, dict[str, object]]:
        inputs = [str(path) for path in scans]
        words = ["--checkpoint", str(checkpoint), "--output", str(tmp_path / "out"), "--json", "--input"]
        code = 0
        try:
            predict.main([*words, *inputs, *options])
        except SystemExit as end:
            code = int(end.code or 0)
        cases = json.loads(capsys.readouterr().out.splitlines()[-1])["cases"]
        assert code == (2 if any(case["error"] for case in cases) else 0)
        return {case["case"]: case for case in cases}

    return run


def correct(path: Path) -> bytes:
    """Change one voxel by hand; the file as it is then."""
    image = nibabel.load(path)
    values = np.array(image.dataobj)
    values.flat[0] = 1 - values.flat[0]
    nibabel.save(nibabel.Nifti1Image(values, image.affine, image.header), path)
    return path.read_bytes()


@pytest.mark.parametrize("options", [(), ("--method", "hierarchical"), ("--volumes",)])
def test_a_correction_by_hand_is_kept_and_told(run: Predict, tmp_path: Path, options: tuple[str]) -> None:
    first, second = run()
    path = tmp_path / "out" / f"{first}_seg.nii.gz"
    by_hand = correct(path)
    again = run(*options)
    assert path.read_bytes() == by_hand
    assert "one that was changed since; it is kept" in str(again[first]["error"])
    assert again[second]["error"] is None
    assert again[second]["cached"] == (not options)
    path.rename(tmp_path / "corrected.nii.gz")
    assert not any(case["error"] for case in run(*options).values())


def test_a_file_of_another_origin_is_kept(run: Predict, tmp_path: Path) -> None:
    """A label drawn by hand for a case that is predicted later, a volume table, and a link to a label."""
    first, second = run()
    for record in (tmp_path / "out" / "records").iterdir():
        record.unlink()
    by_hand = correct(tmp_path / "out" / f"{first}_seg.nii.gz")
    label = tmp_path / "label.nii.gz"
    (tmp_path / "out" / f"{second}_seg.nii.gz").rename(label)
    drawn = label.read_bytes()
    (tmp_path / "out" / f"{second}_seg.nii.gz").symlink_to(label)
    assert all("another file" in str(case["error"]) for case in run().values())
    assert (tmp_path / "out" / f"{first}_seg.nii.gz").read_bytes() == by_hand
    assert label.read_bytes() == drawn
    (tmp_path / "out" / f"{second}_seg.nii.gz").unlink()
    (tmp_path / "out" / f"{second}_volumes.json").write_text("mine")
    assert "another file" in str(run("--volumes")[second]["error"])
    assert (tmp_path / "out" / f"{second}_volumes.json").read_text() == "mine"
    assert not (tmp_path / "out" / f"{second}_seg.nii.gz").exists()  # all of a case, or nothing


def test_own_results_are_replaced_also_in_a_copy_of_the_folder(run: Predict, tmp_path: Path) -> None:
    run()
    shutil.copytree(tmp_path / "out", tmp_path / "copy", copy_function=shutil.copyfile)  # other times
    shutil.rmtree(tmp_path / "out")
    shutil.move(tmp_path / "copy", tmp_path / "out")
    assert all(case["cached"] for case in run().values())
    again = run("--method", "hierarchical")
    assert not any(case["error"] or case["cached"] for case in again.values())


def test_a_run_that_was_cut_short_between_its_files_continues(run: Predict, tmp_path: Path) -> None:
    """The record comes first: the files that it is about to replace are known as its own too."""
    first, _ = run("--volumes")
    names = [f"{first}_seg.nii.gz", f"{first}_volumes.json"]
    before = {name: (tmp_path / "out" / name).read_bytes() for name in names}
    run("--volumes", "--method", "hierarchical")
    for name, content in before.items():
        (tmp_path / "out" / name).write_bytes(content)
    again = run("--volumes", "--method", "hierarchical")[first]
    assert not again["error"]
