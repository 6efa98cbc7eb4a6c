"""The labels of layouts that do not name them: declared in `labels.json`, or the values that files hold."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from pathlib import Path

import numpy as np

from ossnet.data.imaging.nifti import read_header, read_labels
from ossnet.data.layouts.dataset_json import name_labels, read_json, short
from ossnet.data.layouts.source import Case
from ossnet.errors import UserError

LABELS = "labels.json"
"""The file that declares labels, next to the cases."""
_MAX_LABELS = 255  # labels that a store can hold
_RARE = 10  # a value counts where more than one label file in ten holds it


def declared_labels(file: Path, layout: str) -> tuple[dict[str, int], list[UserError]]:
    """The labels that a file declares, and what is strange about them; none where there is no file.

    Raises:
        UserError: it holds something else.
    """
    if not file.is_file():
        return {}, []
    labels = read_json(file, layout)
    if not all(isinstance(value, int) and not isinstance(value, bool) for value in labels.values()):
        raise UserError(
            file,
            expected='names and values such as {"liver": 1, "tumour": 2}',
            found=short(labels),
            remedy="correct the file",
        )
    return name_labels([(value, name) for name, value in labels.items()], file)


def occurring_labels(cases: Sequence[Case], root: Path) -> dict[str, int]:
    """The labels that the label files of cases hold.

    Raises:
        UserError: more values than labels can have, as where images were taken for labels.
    """
    files = [case.label for case in cases if case.label is not None]
    with ThreadPoolExecutor(cpu_count()) as pool:
        found = [values for values in pool.map(_values, files) if values is not None]
    counts = Counter(value for values in found for value in values)
    common = sorted(value for value, count in counts.items() if count * _RARE > len(found) and value > 0)
    if len(common) > _MAX_LABELS:
        raise UserError(
            root,
            expected=f"at most {_MAX_LABELS} label values",
            found=f"{len(common)} in the label files",
            remedy=f"declare the labels in {LABELS}",
        )
    return {"foreground": common[0]} if len(common) == 1 else {f"label-{value}": value for value in common}


def _values(file: Path) -> set[int] | None:
    """The values of a label file; None where it cannot be read, which is reported when the case is used."""
    try:
        labels = read_labels(read_header(file))
    except UserError:
        return None
    return {value for plane in labels for value in np.unique(plane).tolist()}
