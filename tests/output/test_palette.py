"""Colors of classes: each its own, far from the next."""

import colorsys
from itertools import pairwise

from ossnet.output.palette import color, rgb


def test_a_hundred_classes_have_colors_of_their_own() -> None:
    colors = [color(position) for position in range(100)]
    assert len(set(colors)) == 100
    assert all(color(position) == "#{:02x}{:02x}{:02x}".format(*rgb(position)) for position in range(100))


def test_neighbors_have_other_hues() -> None:
    hues = [colorsys.rgb_to_hls(*(each / 255 for each in rgb(position)))[0] for position in range(40)]
    apart = [abs(one - two) for one, two in pairwise(hues)]
    assert min(min(each, 1 - each) for each in apart) > 0.04


def test_no_class_is_gray_or_as_dark_as_a_picture() -> None:
    found = [colorsys.rgb_to_hls(*(each / 255 for each in rgb(position))) for position in range(40)]
    assert all(saturation > 0.3 and lightness > 0.35 for _, lightness, saturation in found)
