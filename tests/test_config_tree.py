"""Trees of dataclasses: what goes out comes back, and what is unknown or of the wrong type is refused."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossnet.config_tree import flatten, from_dict, replace, to_dict, unknown_name
from ossnet.errors import UserError


@dataclass(frozen=True)
class Round:
    kind: Literal["round"] = field(default="round", init=False)
    radius: float = 1.0


@dataclass(frozen=True)
class Square:
    kind: Literal["square"] = field(default="square", init=False)
    edges: tuple[int, int] = (2, 3)
    filled: bool = False

    def __post_init__(self) -> None:
        if min(self.edges) < 1:
            msg = f"edges {self.edges}: expected positive numbers"
            raise ValueError(msg)


@dataclass(frozen=True)
class Frame:
    width: int = 1
    color: Literal["red", "blue"] = "red"


@dataclass(frozen=True)
class Drawing:
    shape: Round | Square = Round()
    frame: Frame = Frame()
    title: str = ""
    note: str | None = None
    path: Path = Path("a/b")
    points: tuple[float, ...] = ()
    names: dict[str, int] = field(default_factory=dict)
    single: Frame | None = None
    anything: Any = None


numbers = st.floats(allow_nan=False, allow_infinity=False)
frames = st.builds(Frame, width=st.integers(), color=st.sampled_from(["red", "blue"]))
edges = st.tuples(st.integers(1, 9), st.integers(1, 9))
drawings = st.builds(
    Drawing,
    shape=st.builds(Round, radius=numbers) | st.builds(Square, edges=edges, filled=st.booleans()),
    frame=frames,
    title=st.text(),
    note=st.none() | st.text(),
    path=st.sampled_from([Path("x"), Path("x/y.txt")]),
    points=st.lists(numbers, max_size=4).map(tuple),
    names=st.dictionaries(st.text().filter(lambda key: "." not in key), st.integers()),
    single=st.none() | frames,
    anything=st.none() | st.integers() | st.text(),
)


@given(drawings)
def test_a_tree_survives_the_way_through_json(drawing: Drawing) -> None:
    assert from_dict(Drawing, json.loads(json.dumps(to_dict(drawing)))) == drawing


@given(drawings)
def test_replacing_every_leaf_by_itself_changes_nothing(drawing: Drawing) -> None:
    # Fields that are not given in a constructor tell the members of a union apart; they are no settings.
    leaves = {path: value for path, value in flatten(drawing).items() if not path.endswith(".kind")}
    assert replace(drawing, leaves) == drawing


def test_flattening_names_leaves_by_their_dotted_path() -> None:
    flat = flatten(Drawing(shape=Square(edges=(4, 5)), frame=Frame(width=7)))
    assert flat["shape.edges"] == [4, 5]
    assert flat["shape.kind"] == "square"
    assert flat["frame.width"] == 7
    assert flat["path"] == "a/b"
    assert not any(isinstance(value, dict) for name, value in flat.items() if name != "names")


def test_replacing_leaves_the_original_alone() -> None:
    drawing = Drawing()
    changed = replace(drawing, {"frame.width": 9, "shape.radius": 2})
    assert (changed.frame.width, changed.shape) == (9, Round(radius=2.0))
    assert drawing == Drawing()


def test_the_kind_identifies_a_member_of_a_union() -> None:
    assert from_dict(Drawing, {"shape": {"kind": "square", "edges": [1, 2]}}).shape == Square(edges=(1, 2))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"titel": "x"}, "configuration: expected a known key, found 'titel'; did you mean 'title'?"),
        (
            {"frame": {"widht": 1}},
            "configuration: expected a known key, found 'frame.widht'; did you mean 'frame.width'?",
        ),
        ({"frame": {"width": "1"}}, "frame.width: expected a whole number, found '1'"),
        ({"frame": {"width": 1.5}}, "frame.width: expected a whole number, found 1.5"),
        ({"frame": {"width": True}}, "frame.width: expected a whole number, found True"),
        ({"frame": {"color": "green"}}, "frame.color: expected one of red, blue, found 'green'"),
        ({"frame": 3}, "frame: expected a mapping, found 3"),
        ({"title": 3}, "title: expected a str, found 3"),
        ({"points": 3}, "points: expected a list, found 3"),
        ({"shape": {"kind": "square", "edges": [1]}}, "shape.edges: expected 2 values, found [1]"),
        ({"shape": {"kind": "square", "edges": [0, 1]}}, "shape: edges (0, 1): expected positive numbers"),
        (
            {"shape": {"kind": "squar"}},
            "shape.kind: expected a known kind, found 'squar'; did you mean 'square'?",
        ),
        ({"names": [1]}, "names: expected a mapping, found [1]"),
    ],
)
def test_what_is_wrong_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        from_dict(Drawing, values)
    assert str(caught.value) == message


def test_an_unknown_path_names_the_nearest() -> None:
    with pytest.raises(
        UserError,
        match=r"configuration: expected a known path, found 'frame\.with'; did you mean 'frame\.width'\?",
    ):
        replace(Drawing(), {"frame.with": 1})


@given(st.text(), st.lists(st.text(), min_size=1))
def test_a_suggestion_is_always_one_of_the_known(found: str, known: list[str]) -> None:
    message = str(unknown_name("here", "name", found, known))
    assert any(message.endswith(f"did you mean {name!r}?") for name in known)


def test_nothing_is_suggested_where_nothing_is_known() -> None:
    assert str(unknown_name("here", "name", "x", [])) == "here: expected a known name, found 'x'"
