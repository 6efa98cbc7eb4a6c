"""Names of users in MLflow: always legal, never two of them one, and found again."""

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import (
    _validate_experiment_name,
    _validate_logged_model_name,
    _validate_metric_name,
    _validate_model_name,
    path_not_unique,
)

from ossnet.distributed.tracking.names import (
    legal_experiment,
    legal_file,
    legal_key,
    legal_model,
    original_keys,
    original_tags,
)

ODD = st.text(string.ascii_letters + "/.:-_ %'\"()&,é肝\n\0\ud800", max_size=300) | st.text(max_size=300)


@pytest.mark.parametrize(
    "name",
    ["dice/val/Kidney (left)", "tumour & cyst", "", "..", "../x", "/", "a//b", "a/", "x" * 251, "😀", "a\n"],
)
def test_what_mlflow_does_not_take_is_renamed_and_known(name: str) -> None:
    legal = legal_key(name)
    assert legal != name
    _validate_metric_name(legal)
    assert original_keys(original_tags([name])) == {legal: name}


@pytest.mark.parametrize(
    "name", ["dice/val", "dice/val/whole tumor", "lésion", "肝臓", "a:b", "model.width", "T-1"]
)
def test_a_legal_name_stays(name: str) -> None:
    assert legal_key(name) == name
    assert original_tags([name]) == {}


@pytest.mark.parametrize(
    ("one", "other"),
    [("a(b", "a)b"), ("a_b", "a(b"), ("", "_"), ("x" * 300, "x" * 301), ("e\u0301", "\u00e9")],
)
def test_names_do_not_collide(one: str, other: str) -> None:
    for legal in (legal_key, legal_model, legal_experiment, legal_file):
        assert legal(one) != legal(other)
    assert legal_key(legal_key("a(b")) != legal_key("a(b")  # nor with what another was renamed to


@given(ODD)
def test_every_key_is_legal_and_reversible(name: str) -> None:
    legal = legal_key(name)
    _validate_metric_name(legal)
    for tag in original_tags([name]):
        _validate_metric_name(tag)
        assert len(tag) <= 250
    assert original_keys(original_tags([name])).get(legal, legal) == name


@given(ODD)
def test_every_experiment_model_and_file_is_legal(name: str) -> None:
    _validate_experiment_name(legal_experiment(name))
    legal_experiment(name).encode()
    _validate_model_name(legal_model(name))
    _validate_logged_model_name(legal_model(name))
    file = legal_file(name)
    assert re.fullmatch(r"[\w.\- ]{1,130}", file, re.ASCII)
    assert not path_not_unique(file)


@given(st.lists(ODD, unique=True, max_size=8))
def test_as_many_names_as_there_were(names: list[str]) -> None:
    for legal in (legal_key, legal_model, legal_experiment, legal_file):
        assert len({legal(name) for name in names}) == len(names)


def test_the_suffix_of_a_file_is_kept() -> None:
    assert legal_file("space.py") == "space.py"
    assert re.fullmatch(r"my_space--[0-9a-f]{8}\.py", legal_file("my?space.py"))
