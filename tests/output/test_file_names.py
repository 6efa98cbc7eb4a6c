"""Names of files for whatever users name: different, short, and taken by every file system."""

import os
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossnet.output.file_names import CLASS_BYTES, MAX_BYTES, file_name, file_names, unique_names

ANY = st.one_of(
    st.text(max_size=300),
    st.text("aAäÄ./\\ ~_-:*é0\u0301\udcf6", max_size=12),
    st.sampled_from(
        ["", ".", "..", "../../x", "siteA/p1", "CON", "nul.txt", "S" * 214, "a" * 300, "-rf", " "]
    ),
)
DEVICES = {"con", "prn", "aux", "nul", "com1", "lpt9"}


def check(name: str, limit: int) -> None:
    assert name
    assert len(os.fsencode(name)) <= limit <= 200
    assert not set(name) & set('/\\<>:"|?*\0\n')
    assert name.isprintable()
    assert name == unicodedata.normalize("NFC", name)
    assert name[0] not in ".- "
    assert name[-1] not in ". "
    assert name.partition(".")[0].strip().lower() not in DEVICES


@given(st.lists(ANY, max_size=20), st.sampled_from([MAX_BYTES, CLASS_BYTES]))
def test_any_names_become_different_safe_ones(texts, limit):
    names = file_names(texts, limit=limit)
    assert set(names) == set(texts)
    for name in names.values():
        check(name, limit)
    folded = {unicodedata.normalize("NFC", name.casefold()) for name in names.values()}
    assert len(folded) == len(set(texts))
    back = {name: text for text, name in names.items()}
    assert all(back[names[text]] == text for text in texts)


@given(ANY)
def test_a_name_alone_is_always_the_same_and_what_it_is_among_others(text):
    check(file_name(text), MAX_BYTES)
    assert file_names([text, "another", "third"])[text] == file_name(text) == file_name(str(text))


@pytest.mark.parametrize(
    "name", ["BraTS-GLI-00001-000", "phantom_001", "Patient 1", "björn", "肝臓_01", "a.b", "x,y", "S" * 150]
)
def test_ordinary_names_stay_as_they_are(name):
    assert file_name(name) == name


@pytest.mark.parametrize(
    ("name", "begin"),
    [
        ("../../outside", "outside~"),
        ("siteA/p1", "siteA_p1~"),
        ("S" * 214, "S" * 137 + "~"),
        ("bj\udcf6rn", "bj_rn~"),
        ("bjo\u0308rn", "björn~"),
        ("", "unnamed~"),
        ("CON", "unnamed-CON~"),
        (".hidden", "hidden~"),
        ("a~0123456789ab", "a_0123456789ab~"),
    ],
)
def test_others_keep_what_is_harmless(name, begin):
    assert file_name(name).startswith(begin)
    assert len(file_name(name)) == len(begin) + 12


def test_names_equal_but_for_case_get_files_of_their_own():
    names = file_names(["P1", "p1", "p2"])
    assert names["p2"] == "p2"
    assert names["P1"].startswith("P1~")
    assert names["p1"].startswith("p1~")
    assert names["P1"][3:] != names["p1"][3:]


@given(st.lists(st.text("aAbB_01", max_size=6), max_size=12))
def test_unique_names_differ_and_change_only_what_they_must(names):
    found = unique_names(names, [f"_{number:04d}" for number in range(len(names))])
    assert len({name.casefold() for name in found}) == len(names)
    assert all(new.startswith(old) for new, old in zip(found, names, strict=True))
    assert unique_names(found, ["!"] * len(found)) == found
