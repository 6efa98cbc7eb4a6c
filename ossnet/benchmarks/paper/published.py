"""The figures that the paper gives for its two data sets, beside which ours are printed.

Reich et al., "OSS-Net", BMVC 2021, Tables 1 and 2.
"""

import re
from dataclasses import dataclass
from typing import Literal

from ossnet.data import Store

Dataset = Literal["brats", "lits"]
_NAMES: dict[Dataset, str] = {"brats": r"brats[-_ /]*(20)?20(?!\d)", "lits": r"(?<![a-z])lits"}

NOTE = (
    "Paper: whole tumour or liver; Dice and IoU of its best epoch at points of its validation cases, of "
    "which 40 % lie at the border (LiTS); GB (10^9 bytes) on a GPU with one volume a step and 2^14 "
    "points, of the 3-D U-Net on LiTS at 224^3."
)


@dataclass(frozen=True)
class Published:
    """What the paper reports of a network on a data set."""

    dice: float
    iou: float
    training_gb: float
    """Peak of a training step."""
    inference_gb: float
    """Peak of inference, with 2^14 points at once."""


PAPER: dict[Dataset, dict[str, Published]] = {
    "brats": {
        "unet-3d": Published(0.8827, 0.7995, 14.41, 3.57),
        "unet-2d": Published(0.8589, 0.7658, 1.16, 0.46),
        "o-net": Published(0.7016, 0.5615, 2.35, 0.29),
        "oss-net-a": Published(0.8592, 0.7644, 2.58, 0.39),
        "oss-net-b": Published(0.8541, 0.7572, 2.76, 0.48),
        "oss-net-c": Published(0.8842, 0.7991, 2.59, 0.39),
        "oss-net-d": Published(0.8774, 0.7876, 2.76, 0.48),
    },
    "lits": {
        "unet-3d": Published(0.7888, 0.6558, 14.41, 3.57),
        "unet-2d": Published(0.6674, 0.5233, 4.29, 1.20),
        "o-net": Published(0.6506, 0.4842, 5.07, 1.47),
        "oss-net-a": Published(0.7127, 0.5579, 5.18, 1.50),
        "oss-net-b": Published(0.7585, 0.6154, 5.21, 1.53),
        "oss-net-c": Published(0.7616, 0.6201, 5.19, 1.51),
        "oss-net-d": Published(0.7566, 0.6150, 5.22, 1.53),
    },
}
"""The paper's Tables 1 and 2, by data set and network."""


def paper_dataset(store: Store) -> Dataset | None:
    """Which of the paper's data sets a store was prepared from, by its layout or the source's path."""
    configuration = store.manifest.configuration
    if configuration.get("layout") == "lits":
        return "lits"
    source = str(configuration.get("source", "")).lower()
    return next((name for name, pattern in _NAMES.items() if re.search(pattern, source)), None)
