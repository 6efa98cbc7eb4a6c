"""A study on disk as tables, read without a change to its folder."""

import shutil
from pathlib import Path

import pytest
from recorded_study import ENDS, write_study

import ossnet
from ossnet.distributed.tuning.config import OptimizationConfig
from ossnet.distributed.tuning.storage import DATABASE, TuningStudy
from ossnet.errors import UserError
from ossnet.inference import Predictor


def test_trials_and_curves_are_tables(tmp_path: Path) -> None:
    write_study(tmp_path)
    before = sorted(tmp_path.iterdir())
    study = ossnet.open_study(str(tmp_path))
    assert sorted(tmp_path.iterdir()) == before
    assert list(study.trials["network"]) == [network for network, *_ in ENDS]
    assert list(study.trials["end"]) == [end.value for _, end, *_ in ENDS]
    assert list(study.trials["dice"])[:2] == [0.5, 0.81]
    assert study.trials["dice"].isna().tolist() == [False, False, True]
    assert list(study.trials["memory/peak_allocated_gib"])[:2] == [0.75, 0.5]
    assert list(study.trials["params.width"]) == [8, 16, 32]
    assert study.curves[1].to_dict() == {1: 0.5, 2: 0.75, 4: 0.81}
    assert study.curves[0].dropna().to_dict() == {1: 0.25, 2: 0.5}
    assert study.best["network"] == "oss-net-c"
    assert (study.counts.finished, study.counts.rejected) == (1, 1)
    assert study.front.empty
    assert study.checkpoint is None


def test_a_study_fits_a_line_and_a_notebook_shows_the_best_first(tmp_path: Path) -> None:
    write_study(tmp_path)
    study = ossnet.open_study(tmp_path)
    assert repr(study) == "StudyView(mine: 3 trials, best Dice 0.8100 by 001 oss-net-c)"
    page = study._repr_html_()
    assert page.index("oss-net-c</td>") < page.index("unet-3d</td>")


def test_the_best_network_predicts(tmp_path: Path, phantom_checkpoint: Path) -> None:
    write_study(tmp_path)
    with pytest.raises(UserError, match="no checkpoint"):
        ossnet.open_study(tmp_path).predictor()
    shutil.copytree(phantom_checkpoint, tmp_path / "checkpoint")
    assert isinstance(ossnet.open_study(tmp_path).predictor(method="dense"), Predictor)


def test_a_study_without_a_trial(tmp_path: Path) -> None:
    TuningStudy.open_or_create(tmp_path / DATABASE, "new", OptimizationConfig())
    study = ossnet.open_study(tmp_path)
    assert repr(study) == "StudyView(new: 0 trials, none with a result yet)"
    assert "0 trials" in study._repr_html_()
    with pytest.raises(UserError, match="expected a trial with a result"):
        study.best  # noqa: B018


@pytest.mark.parametrize("content", [None, b"", b"no database at all, but long enough to be one"])
def test_what_is_no_study_is_one_line_that_names_it(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / DATABASE).write_bytes(content)
    with pytest.raises(UserError) as rejected:
        ossnet.open_study(tmp_path)
    assert str(rejected.value).startswith(str(tmp_path))
    assert len(str(rejected.value).splitlines()) == 1
