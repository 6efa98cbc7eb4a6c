"""`predict` and `evaluate` with several checkpoints."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from ossnet.commands import evaluate, predict
from ossnet.config import Config
from ossnet.data import Store
from ossnet.errors import UserError
from ossnet.inference.ensemble import Ensemble, Member
from ossnet.models import network_from_config
from ossnet.training.checkpoint import save_checkpoint


def save(folder: Path, store: Store, *, seed: int, fold: int | None = None) -> str:
    small = {"model.encoder_channels": (4, 4), "model.decoder_width": 8, "model.patch_edge": 3}
    config = Config.preset("oss-net-a", store).replace({**small, "training.fold": fold}).resolve_for(store)
    torch.manual_seed(seed)
    documents = {"config.json": config.to_json(), "task.json": json.dumps(store.task.to_dict())}
    save_checkpoint(folder, network=network_from_config(config.model), documents=documents, state={})
    return str(folder)


@pytest.fixture
def study(phantom_store: Path, tmp_path: Path) -> Path:
    """A study's folder with an ensemble of two networks."""
    store, folder = Store.open(phantom_store), tmp_path / "study"
    for seed in (0, 1):
        save(folder / "ensemble" / str(seed), store, seed=seed)
    members = tuple(Member(Path("ensemble", str(seed)), weight) for seed, weight in ((0, 0.6), (1, 0.4)))
    Ensemble(members, 0.5, 0.4, 2).save(folder)
    return folder


def test_predict(
    study: Path, phantom_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = min((phantom_store.parent / "source" / "imagesTr").iterdir())
    words = ["--checkpoint", str(study), "--input", str(scan), "--output", str(tmp_path / "out"), "--json"]
    predict.main([*words, "--probabilities"])
    (case,) = json.loads(capsys.readouterr().out.splitlines()[-1])["cases"]
    parts = []
    for seed in (0, 1):
        alone = ["--checkpoint", str(study / "ensemble" / str(seed)), "--output", str(tmp_path / str(seed))]
        predict.main([*alone, "--input", str(scan), "--probabilities", "--json"])
        parts.append(
            {path.name: nibabel.load(path).get_fdata() for path in (tmp_path / str(seed)).glob("*prob*")}
        )
    assert parts[0]
    for name, first in parts[0].items():
        mean = nibabel.load(tmp_path / "out" / name).get_fdata()
        np.testing.assert_allclose(mean, 0.6 * first + 0.4 * parts[1][name], atol=1e-2)
        assert not np.allclose(first, parts[1][name], atol=1e-2)
    assert case["cached"] is False
    capsys.readouterr()
    predict.main([*words, "--probabilities"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["cases"][0]["cached"] is True
    members = read = Ensemble.read(study).members
    Ensemble(tuple(reversed(read)), 0.5, 0.4, 2).save(study)  # other weights are another ensemble
    Ensemble((members[0], Member(members[1].checkpoint, 0.9)), 0.5, 0.4, 2).save(study)
    predict.main([*words, "--probabilities"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["cases"][0]["cached"] is False
    with pytest.raises(UserError, match="onnx: expected one checkpoint, found 2 checkpoints"):
        predict.main([*words, "--onnx"])


def test_evaluate(
    study: Path, phantom_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = str(study / "ensemble" / "0")
    words = ["--data", str(phantom_store), "--method", "dense", "--json"]

    def dice(output: str, *checkpoints: str) -> float:
        evaluate.main([*words, "--output", str(tmp_path / output), "--checkpoint", *checkpoints])
        return float(json.loads(capsys.readouterr().out.splitlines()[-1])["dice"]["mean"])

    assert dice("twice", first, first) == pytest.approx(dice("once", first), abs=1e-4)
    assert (tmp_path / "twice" / "evaluation.html").is_file()
    assert 0 <= dice("both", str(study)) <= 1
    for option in ("--calibrate", "--fit-temperature"):
        with pytest.raises(
            UserError, match=f"{option[2:].replace('-', '_')}: expected one checkpoint, found 2"
        ):
            evaluate.main([*words, "--output", str(tmp_path / "no"), "--checkpoint", str(study), option])


def test_networks_of_several_folds_are_scored_on_the_test_split_only(
    study: Path, phantom_store: Path, tmp_path: Path
) -> None:
    other = save(tmp_path / "other", Store.open(phantom_store), seed=2, fold=1)
    words = [
        "--data",
        str(phantom_store),
        "--output",
        str(tmp_path / "out"),
        "--checkpoint",
        str(study),
        other,
    ]
    with pytest.raises(
        UserError, match="checkpoint: expected checkpoints that were trained on the same cases"
    ):
        evaluate.main(words)
