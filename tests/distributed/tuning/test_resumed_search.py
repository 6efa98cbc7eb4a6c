"""A search that was left, and what may have changed until it goes on."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from driven_search import SPACE, Opening, result, suggestion
from tuning_study import make_spec, read_trials

from ossnet.config import Config
from ossnet.data import Store
from ossnet.distributed.tuning.searcher import StudySearch
from ossnet.distributed.tuning.storage import SCHEMA, SETTINGS, TuningStudy
from ossnet.errors import UserError
from ossnet.metric_names import CASE_MEDIAN, MEMORY


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{}, {"objectives": ("dice", "memory", "inference-memory", "seconds"), "seconds_per_case": 1.5}],
    ids=["dice", "all"],
)
def test_a_killed_search_resumes_as_if_nothing_had_happened(
    opening: Opening, budget: float, tmp_path: Path, options: dict[str, Any]
) -> None:
    """Twelve trials in a row by a search that is left at any time, and by one that never is."""

    def play(search: StudySearch, name: str) -> None:
        found = suggestion(search, name)
        dice, seconds = 1 - (found.params["border"] - 0.3) ** 2, 1 + found.params["border"]
        measured = {MEMORY: found.predicted_gib, CASE_MEDIAN: seconds}
        search.on_trial_complete(name, result(4, dice, final=1.0) | measured)

    opening = partial(opening, **options)
    search = opening(trials=12, concurrent=1, budget_gib=budget)
    for number in range(12):
        if number in {3, 9}:
            left = suggestion(search, "left")  # and its driver is killed
            search = opening(trials=12, concurrent=1, budget_gib=budget)
            assert suggestion(search, str(number)) == left
        play(search, str(number))
    assert search.suggest("more") == StudySearch.FINISHED
    cut = [(trial.params, trial.state) for trial in read_trials(tmp_path)]
    (tmp_path / "study.db").unlink()
    whole = opening(trials=12, concurrent=1, budget_gib=budget)
    for number in range(12):
        play(whole, str(number))
    assert [(trial.params, trial.state) for trial in read_trials(tmp_path)] == cut


def test_an_option_that_changed_is_rejected(opening: Opening) -> None:
    study = opening().study
    study.check_settings({"seeds": 1, "model.decoder_width": 16})
    study.check_settings({"seeds": 1, "model.decoder_width": 16})
    with pytest.raises(UserError, match="resumed study, seeds: expected 1, found 2"):
        study.check_settings({"seeds": 2, "model.decoder_width": 16})


def test_a_setting_that_a_study_began_without_counts_as_its_default(
    opening: Opening, tiny: Config, store: Store, tmp_path: Path
) -> None:
    """A study of an earlier version goes on, unless an option is given that it could not have."""
    study = opening().study
    spec = make_spec(tmp_path, SPACE, tiny, store)
    now, defaults = spec.settings(), spec.default_settings()
    later = {  # an option each of the search, of early stopping and of training, whose default is not None
        "n_startup_trials": 8,
        "early_stopping.reduction_factor": 2,
        "training.accumulation_steps": 1,
    }
    assert {name: defaults[name] for name in later} == later
    study.check_settings({name: value for name, value in now.items() if name not in later})
    assert set(later).isdisjoint(study.user_attrs[SETTINGS])
    study.check_settings(now, defaults)
    for name, value in later.items():
        with pytest.raises(UserError, match=f"resumed study, {name}: expected {value}, found {value + 1}"):
            study.check_settings({**now, name: value + 1}, defaults)


def test_comments_and_format_of_a_space_do_not_block_resuming(search: StudySearch) -> None:
    study, helpers = search.study, {"widths.py": "W = [8, 16]\n"}
    study.check_settings({"space": SPACE, "space helpers": helpers})
    again = "import math\nimport os\n" + SPACE
    study.check_settings({"space": f"# what is searched\n{SPACE}", "space helpers": helpers})
    study.check_settings(
        {"space": SPACE.replace('"', "'"), "space helpers": {"widths.py": "W=[8,16] # wide"}}
    )
    study.check_settings({"space": SPACE.replace("\n", "\r\n"), "space helpers": helpers | {"more.py": ""}})
    with pytest.raises(UserError, match="resumed study, space: expected the space file that it began with"):
        study.check_settings({"space": again, "space helpers": helpers})
    with pytest.raises(
        UserError, match=r"resumed study, space helpers: expected widths\.py as it began with"
    ):
        study.check_settings({"space": SPACE, "space helpers": {"widths.py": "W = [8, 32]"}})
    with pytest.raises(UserError, match=r"expected widths\.py as it began with, found another one"):
        study.check_settings({"space": SPACE, "space helpers": {}})


@pytest.mark.parametrize(
    ("schema", "found"), [(None, "one without a schema"), (1, "schema 1"), (3, "schema 3")]
)
def test_a_study_of_another_schema_is_rejected(
    opening: Opening, tmp_path: Path, schema: int | None, found: str
) -> None:
    search = opening()
    search.suggest("a")
    search.study.set_user_attr(SCHEMA, schema)
    line = (
        rf"study\.db: expected a study of schema 2, found {found}; start the study anew with another --output"
    )
    with pytest.raises(UserError, match=line):
        opening()
    with pytest.raises(UserError, match=line):
        TuningStudy.load(tmp_path / "study.db")
