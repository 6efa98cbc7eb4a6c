"""How unsure a network is of each voxel: the entropy of its probabilities.

Letters: X Y Z voxel axes in nibabel's order.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float


def entropy(
    probabilities: Sequence[Float[np.ndarray, "X Y Z"]], *, overlapping: bool
) -> Float[np.ndarray, "X Y Z"]:
    """From 0, sure, to 1, undecided between all classes and the background.

    Of regions, which are decided each by itself, that of the least sure one. Of the mean over flips it holds
    what they disagree about.
    """
    if overlapping or len(probabilities) == 1:
        return np.max([_bits(each) + _bits(1 - each) for each in probabilities], axis=0)
    background, total = np.ones_like(probabilities[0]), np.zeros_like(probabilities[0])
    for each in probabilities:
        background -= each
        total += _bits(each)
    total += _bits(background)
    return np.clip(total / np.float32(np.log2(len(probabilities) + 1)), 0, 1)


def _bits(share: Float[np.ndarray, "X Y Z"]) -> Float[np.ndarray, "X Y Z"]:
    from scipy.special import entr

    return entr(np.clip(share, 0, 1)) / np.float32(np.log(2))
