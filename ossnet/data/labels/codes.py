"""Conversion between labels and the codes of `ossnet.data.labels.scheme`, where the classes are regions.

Legend: L labels and the background, O codes.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import UInt8

from ossnet.data.labels.scheme import ClassScheme

Regions = Mapping[str, Sequence[str]]
"""Names of the labels that each region is made of."""


def label_codes(labels: Sequence[str], regions: Regions) -> UInt8[np.ndarray, " L"]:
    """The code of the background and of every label."""
    bits = [sum(1 << bit for bit, names in enumerate(regions.values()) if label in names) for label in labels]
    return np.array([0, *bits], np.uint8)


def writing_order(regions: Regions) -> list[int]:
    """Indices of the regions from the outermost to the innermost, as they are written over one another.

    What holds more labels is written first, so that a region never hides one inside it.
    """
    sizes = [len(names) for names in regions.values()]
    return sorted(range(len(sizes)), key=lambda index: -sizes[index])


def is_nested(regions: Regions) -> bool:
    """Whether any two regions share no label, or one holds the other: then one label map shows them all."""
    sets = [set(names) for names in regions.values()]
    return all(one <= two or two <= one or not one & two for one in sets for two in sets)


def last_written(regions: Regions) -> UInt8[np.ndarray, " O"]:
    """The region that is written last for every code, counted from 1; 0 for the background."""
    inside = ClassScheme(len(regions), overlapping=True).membership
    last = np.zeros(len(inside), np.uint8)
    for index in writing_order(regions):
        last[inside[:, index]] = index + 1
    return last


def written_labels(labels: Sequence[str], regions: Regions) -> UInt8[np.ndarray, " O"]:
    """The label that every code is exported as, counted from 1; 0 for the background.

    It is the label that lies in exactly these regions, the first one if there are several. A network may also
    decide what no label means (the core of a tumour outside the tumour): then the regions are written from
    the outermost to the innermost, each as its first label that no later one holds.
    """
    order = writing_order(regions)
    names = list(regions.values())
    own = {}
    for position, index in enumerate(order):
        later = {label for other in order[position + 1 :] for label in names[other]}
        mine = [label for label in labels if label in names[index]]
        left = [label for label in mine if label not in later]
        own[index + 1] = 1 + labels.index((left or mine)[0])
    written = np.array([own.get(region, 0) for region in last_written(regions).tolist()], np.uint8)
    exact = label_codes(labels, regions)
    for label in range(len(labels), 0, -1):  # the first one stays
        if exact[label]:
            written[exact[label]] = label
    return written
