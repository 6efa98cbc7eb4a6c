"""What an interpreter, a notebook and pandas show of a store."""

from typing import TYPE_CHECKING

from ossnet.output.duration import counted
from ossnet.output.views import listed, notebook_view

if TYPE_CHECKING:
    import pandas as pd

    from ossnet.data.store.store import Manifest, Store

_SHOWN = 3  # cases in a notebook


def describe(manifest: "Manifest") -> str:
    """How many cases there are, of what to what, in a line."""
    splits = ", ".join(f"{len(cases)} {name}" for name, cases in manifest.splits.items() if cases)
    excluded = f", {len(manifest.excluded)} excluded" if manifest.excluded else ""
    task, names = manifest.task, listed(manifest.task.modalities)
    classes = f"{task.classes} class{'es' * (task.classes > 1)}"
    return f"{counted(len(manifest.cases), 'case')} ({splits}{excluded}), {names} to {classes}"


def cases_frame(manifest: "Manifest") -> "pd.DataFrame":
    """A row a case: split, group, shape, spacing in mm, and the voxels of each label."""
    import pandas as pd

    split_of = {case: name for name, cases in manifest.splits.items() for case in cases}
    rows = {
        case: {
            "split": split_of.get(case),
            "group": entry.group,
            "shape": entry.statistics.shape,
            "spacing": entry.statistics.spacing,
            **dict(zip(manifest.task.labels, entry.statistics.class_counts[1:], strict=True)),
        }
        for case, entry in manifest.cases.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("case")


def store_html(store: "Store") -> str:
    """The description, and slices of the first cases that are not held out."""
    task, cases = store.task, [*store.split("training"), *store.split("validation")][:_SHOWN]
    pictures = [store.case(each).picture(each) for each in cases]
    facts = [store.location, describe(store.manifest)]
    return notebook_view("Store", facts=facts, pictures=pictures, classes=list(task.labels))
