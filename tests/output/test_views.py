"""What interpreters and notebooks show: lines that fit, slices with colored classes, escaped texts."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from ossnet.output.palette import rgb
from ossnet.output.views import LINE, Picture, listed, notebook_view, one_line
from ossnet.output.views.slices import draw, planes_through


@pytest.mark.parametrize("facts", ["", "short", "x" * 500, "two\nlines " * 30])
def test_a_representation_is_one_line(facts: str) -> None:
    line = one_line("Kind", facts)
    assert len(line) <= LINE
    assert "\n" not in line
    assert line.startswith("Kind(")
    assert line.endswith(")")


def test_many_names_are_counted() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed([str(number) for number in range(104)]) == "0, 1, 2, 3 and 100 more"


def decoded(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))), int)


def near(picture: np.ndarray, color: tuple[int, int, int]) -> int:
    """Pixels of about this color: JPEG keeps it roughly."""
    return int((np.abs(picture - color).max(-1) < 60).sum())


@pytest.mark.parametrize("finer", [1, 2])
def test_slices_pass_through_the_foreground_and_show_classes_in_their_colors(finer: int) -> None:
    """Also where the decisions are on a finer grid than the image."""
    image = np.full((12, 16, 20), 100.0, np.float32)
    image[3, 4, 5] = 200
    label = np.zeros(tuple(finer * size for size in image.shape), np.uint8)
    label[3 * finer : 4 * finer, 4 * finer : 5 * finer, 5 * finer : 6 * finer] = 1
    label[3 * finer : 4 * finer, 8 * finer : 12 * finer, 4 * finer : 12 * finer] = 2
    planes = planes_through(image, label)
    assert [plane.axis for plane in planes] == [2, 1, 0]
    assert planes[2].image[4, 5] == 200
    assert planes[2].image.shape == (16, 20)
    spacing = (1 / finer,) * 3
    picture = decoded(draw(planes, values=[1, 2], spacing=spacing, edge=160))
    assert picture.shape == (160, 96 + 96 + 128 + 8, 3)
    assert near(picture, rgb(1)) > 100
    assert near(picture, rgb(2)) == 0
    without = decoded(draw(planes, values=[], spacing=spacing, edge=160))
    assert np.abs(without - without.mean(-1, keepdims=True)).max() < 30  # gray: the background has no color


def test_a_view_escapes_texts_and_names_the_classes() -> None:
    page = notebook_view(
        "<b>", facts=["a & b"], pictures=[Picture("FLAIR", "data:,")], classes=["liver", "x<y"]
    )
    assert "&lt;b&gt;" in page
    assert "a &amp; b" in page
    assert "x&lt;y" in page
    assert re.findall(r"color: (#\w+)", page) == ["#e5484d", "#30a46c"]
    assert page.count("<img ") == 1
    assert notebook_view("many", classes=["x"] * 117).count("&#9632;") == 25
