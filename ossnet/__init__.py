"""Networks, data and search for 3-D segmentation under a memory budget."""

from pathlib import Path
from typing import TYPE_CHECKING

# What these need is imported when they are called: `import ossnet` takes no time.
if TYPE_CHECKING:
    from ossnet.data import Store
    from ossnet.distributed.reports.study_view import StudyView

__all__ = ["open_store", "open_study"]


def open_store(path: Path | str, *, with_test: bool = False) -> "Store":
    """Open a prepared data set in a folder, or under a URL (`s3://`, `gs://`, `abfs://`).

    Examples:
        >>> open_store("runs/store").to_frame()["split"].value_counts().to_dict()
        {'training': 8, 'validation': 2}

    Args:
        with_test: whether the test split may be read.

    Raises:
        UserError: there is no store, or it is damaged.
    """
    from ossnet.data import Store

    return Store.open(path, with_test=with_test)


def open_study(path: Path | str) -> "StudyView":
    """Read a study that `ossnet tune` wrote, or is writing; it needs Optuna and Ray, and starts neither.

    Examples:
        >>> study = open_study("runs/study")
        >>> study
        StudyView(mine: 3 trials, best Dice 0.8100 by 001 oss-net-c)
        >>> study.trials[["network", "end", "dice"]]
                 network                    end  dice
        trial
        0        unet-3d          early_stopped  0.50
        1      oss-net-c               finished  0.81
        2      oss-net-d  infeasible: predicted   NaN
        >>> study.predictor()("new_scan.nii.gz").labels.shape
        (28, 26, 22)

    Args:
        path: the study's folder, or its URL.

    Raises:
        UserError: there is no study, or one of another version.
    """
    from ossnet.distributed.reports.study_view import StudyView

    return StudyView.open(path)
