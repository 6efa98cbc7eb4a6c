"""A search that was left, and what may have changed until it goes on."""

from pathlib import Path

import pytest
from driven_search import SPACE, Opening, result, suggestion
from tuning_study import read_trials

from ossnet.distributed.tuning.searcher import StudySearch
from ossnet.distributed.tuning.storage import SCHEMA, TuningStudy
from ossnet.errors import UserError
from ossnet.metric_names import MEMORY


@pytest.mark.slow
def test_a_killed_search_resumes_as_if_nothing_had_happened(
    opening: Opening, budget: float, tmp_path: Path
) -> None:
    """Twelve trials in a row by a search that is left at any time, and by one that never is."""

    def play(search: StudySearch, name: str) -> None:
        found = suggestion(search, name)
        dice = 1 - (found.params["border"] - 0.3) ** 2
        search.on_trial_complete(name, result(4, dice, final=1.0) | {MEMORY: found.predicted_gib})

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
