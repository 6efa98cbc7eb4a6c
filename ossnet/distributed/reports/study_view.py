"""A study on disk as Python code and notebooks read it: tables of trials, curves and the Pareto front."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ossnet.distributed._sqlite import copy_database, find_damage
from ossnet.distributed.tuning.recovery.database import COPY
from ossnet.distributed.tuning.result import FrontMember, TrialCounts, best_of, dice_of
from ossnet.distributed.tuning.storage import (
    DATABASE,
    METRICS,
    NETWORK_NAME,
    SETTINGS,
    TuningStudy,
    end_of,
)
from ossnet.distributed.tuning.trial import trial_title
from ossnet.errors import UserError
from ossnet.inference.ensemble import AnyPredictor, load_predictor, read_members
from ossnet.output.claim import is_by_ray
from ossnet.output.duration import counted
from ossnet.output.remote.copies import fetch_input
from ossnet.output.views import notebook_view, one_line
from ossnet.training.checkpoint_files import CHECKPOINT

if TYPE_CHECKING:
    import pandas as pd
    from optuna.trial import FrozenTrial

_SHOWN = 10  # trials in a notebook
_COLUMNS = ["network", "end", "dice", "began", "ended"]  # that there always are


@dataclass(frozen=True, repr=False)
class StudyView:
    """A study as it was when it was read; while it runs, open it again for more."""

    folder: Path
    """The study's, which keeps the best checkpoint."""
    name: str
    objectives: tuple[str, ...]
    limits: Mapping[str, float]
    """What no trial may pass, by objective."""
    settings: Mapping[str, Any]
    """What it began with, by options and dotted fields."""
    counts: TrialCounts
    """The trials by how they ended."""
    best_number: int | None
    """The number of the best trial; None while none has a result."""
    trials: "pd.DataFrame"
    """A row a suggestion, by its number: network, end, dice, when it began and ended, the metrics by MLflow's
    names, and the sampled parameters as `params.NAME`."""
    curves: "pd.DataFrame"
    """Dice of the validations: a row for each epoch that any trial was validated after, a column a trial."""
    front: "pd.DataFrame"
    """The trials on the Pareto front of several objectives, the best Dice first: the objectives' values."""

    @classmethod
    def open(cls, path: Path | str) -> "StudyView":
        """Read a study from a copy of its file, so that nothing is written to its folder.

        Raises:
            UserError: there is no study, or one of another version.
        """
        folder = fetch_input(Path(path), is_by_ray)
        database = next((folder / name for name in (DATABASE, COPY) if (folder / name).is_file()), None)
        if database is None:
            found = f"no {DATABASE}" if folder.is_dir() else "no such folder"
            remedy = "give the --output of an ossnet tune"
            raise UserError(folder, expected="a study", found=found, remedy=remedy)
        with TemporaryDirectory() as aside:
            return cls._of(_load(database, Path(aside) / DATABASE), folder)

    @classmethod
    def _of(cls, study: TuningStudy, folder: Path) -> "StudyView":
        import pandas as pd

        suggested, best = study.suggested_trials(), best_of(study.started_trials())
        curves = {trial.number: trial.intermediate_values for trial in suggested if trial.intermediate_values}
        front = FrontMember.of_study(study)
        return cls(
            folder=folder,
            name=study.study_name,
            objectives=study.objectives,
            limits=study.limits,
            settings=study.user_attrs.get(SETTINGS, {}),
            counts=TrialCounts.of(study),
            best_number=None if best is None else best.number,
            trials=_table({trial.number: _row(trial) for trial in suggested}),
            curves=pd.DataFrame(curves).sort_index().rename_axis("epoch").rename_axis("trial", axis=1),
            front=_table({each.number: {"network": each.network, **each.values} for each in front}),
        )

    @property
    def best(self) -> "pd.Series":
        """The row of the best trial.

        Raises:
            UserError: no trial has a result yet.
        """
        if self.best_number is None:
            raise UserError(self.folder, expected="a trial with a result", found=self._result)
        return self.trials.loc[self.best_number]

    @property
    def checkpoint(self) -> Path | None:
        """The best trial's checkpoint; None until the study has ended."""
        path = self.folder / CHECKPOINT
        return path if path.is_dir() else None

    def predictor(self, **options: Any) -> AnyPredictor:
        """The best network, or the ensemble that was chosen, to segment new scans with.

        Args:
            options: those of `Predictor.from_checkpoint`.

        Raises:
            UserError: the study has no checkpoint yet.
        """
        return load_predictor(read_members([self.folder]), **options)

    def __repr__(self) -> str:
        return one_line("StudyView", f"{self.name}: {counted(len(self.trials), 'trial')}, {self._result}")

    def _repr_html_(self) -> str:
        facts = [str(self.folder), f"{counted(len(self.trials), 'trial')}: {self._result}"]
        facts += [f"{name} at most {limit:.3g}" for name, limit in self.limits.items()]
        best_first = self.trials.sort_values("dice", ascending=False).head(_SHOWN)
        table = str(best_first.dropna(axis=1, how="all").to_html(float_format="{:.4g}".format))
        return notebook_view(f"Study {self.name}", facts=facts) + table

    @property
    def _result(self) -> str:
        if self.best_number is None:
            return "none with a result yet"
        best = self.trials.loc[self.best_number]
        return f"best Dice {best['dice']:.4f} by {trial_title(self.best_number, best['network'])}"


def _load(database: Path, copy: Path) -> TuningStudy:
    """The study in a copy of its file; errors name the file itself."""
    damage = find_damage(database, ["studies"])
    if damage is not None:
        raise UserError(database, expected="a study", found=damage, remedy="go on with ossnet tune --resume")
    try:
        copy_database(database, copy)
        return TuningStudy.load(copy)
    except UserError as error:
        raise UserError(database, expected=error.expected, found=error.found, remedy=error.remedy) from error


def _table(rows: Mapping[int, Mapping[str, Any]]) -> "pd.DataFrame":
    import pandas as pd

    index = pd.Index(list(rows), name="trial")
    return pd.DataFrame(list(rows.values()), index=index, columns=None if rows else _COLUMNS)


def _row(trial: "FrozenTrial") -> dict[str, Any]:
    """A trial's row; one that is running or was refused has no Dice."""
    end, scored = end_of(trial), trial.values is not None or bool(trial.intermediate_values)
    return {
        "network": trial.user_attrs.get(NETWORK_NAME),
        "end": trial.state.name.lower() if end is None else end.value,
        "dice": dice_of(trial) if scored and end is not None else math.nan,
        "began": trial.datetime_start,
        "ended": trial.datetime_complete,
        **trial.user_attrs.get(METRICS, {}),
        **{f"params.{name}": value for name, value in trial.params.items()},
    }
