"""The best of a study, as its page presents it."""

from dataclasses import asdict
from pathlib import Path

import pytest
from recorded_study import write_study
from torch import nn

from ossnet.distributed.reports.page import Winner
from ossnet.distributed.tuning.final.refit import REFIT, Refit
from ossnet.metric_names import MEMORY
from ossnet.training.checkpoint import save_checkpoint
from ossnet.training.checkpoint_files import CHECKPOINT


@pytest.mark.parametrize(("dice", "title"), [(0.9, "001 oss-net-c, trained on"), (0.7, "001 oss-net-c")])
def test_the_last_training_is_the_best_where_its_checkpoint_is_kept(
    dice: float, title: str, tmp_path: Path
) -> None:
    study = write_study(tmp_path)
    refit = Refit("run", 2, 1, "{}", 0.5, ended=True, metrics={MEMORY: 0.25})
    study.set_user_attr(REFIT, asdict(refit))
    for folder, found in ((refit.folder(tmp_path), dice), (tmp_path, max(dice, 0.81))):
        save_checkpoint(folder / CHECKPOINT, network=nn.Linear(1, 1), documents={}, state={"dice": found})
    winner = Winner.of_study(study, tmp_path)
    assert winner is not None
    assert winner.title == title
    assert winner.tiles["Dice (validation)"] == f"{max(dice, 0.81):.4f}"
    assert winner.tiles["GiB at the peak of a step"] == ("0.250" if dice > 0.81 else "0.500")
