"""What the classes of a network mean: how many there are, whether they overlap, how logits decide a voxel.

A decision is one number a voxel, its code. Of classes that exclude one another the code is the class index, 0
for the background. Of regions that may overlap, region k is bit k, so that eight of them fit into a byte and
whatever handles class indices (borders, grids, files) handles regions too.

Legend: C foreground classes, K logits, N points or voxels, O codes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from jaxtyping import Bool, Float, UInt8

if TYPE_CHECKING:
    from torch import Tensor

    from ossnet.models import NetworkConfig

MAX_REGIONS = 8

Voxels = TypeVar("Voxels", np.ndarray, "Tensor")


@dataclass(frozen=True)
class ClassScheme:
    """The classes that a network decides; torch is imported only where logits are given."""

    classes: int
    """Foreground classes; the background is not counted."""
    overlapping: bool = False
    """Whether a voxel may lie in several classes; never so of a single one."""
    names: tuple[str, ...] = ()
    """The name of each class, in class order; empty for a network's configuration, which has no names."""

    def __post_init__(self) -> None:
        """Reject more overlapping regions than a code holds.

        Raises:
            ValueError: there are more than eight of them.
        """
        if self.overlapping and self.classes > MAX_REGIONS:
            msg = f"expected at most {MAX_REGIONS} overlapping regions, found {self.classes}"
            raise ValueError(msg)

    @classmethod
    def of(cls, config: "NetworkConfig") -> "ClassScheme":
        """The scheme of a network's configuration, without names.

        Raises:
            ValueError: there are more than eight overlapping regions.
        """
        return cls(config.classes, overlapping=config.overlapping and config.classes > 1)

    @property
    def independent(self) -> bool:
        """Whether each class has a logit and a sigmoid of its own, instead of a softmax over all of them."""
        return self.classes == 1 or self.overlapping

    @property
    def logits(self) -> int:
        """Logits of a point: those of classes and, where these exclude one another, the background's."""
        return self.classes if self.independent else self.classes + 1

    def _separate(self, logits: "Tensor") -> bool:
        """Whether each of these logits has a sigmoid of its own, as a single one has."""
        return self.overlapping or logits.shape[-1] == 1

    @cached_property
    def membership(self) -> Bool[np.ndarray, "O C"]:
        """Table of the classes that each code lies in, for all codes."""
        codes = np.arange(2**self.classes if self.overlapping else self.classes + 1)
        return np.stack([self.in_class(codes, index) for index in range(self.classes)], axis=1)

    def in_class(self, codes: Voxels, index: int) -> Voxels:
        """Whether each code lies in the class of this index, counted from 0 without the background."""
        return (codes & (1 << index)) != 0 if self.overlapping else codes == index + 1

    def decide(self, logits: 'Float[Tensor, "N K"]') -> 'UInt8[Tensor, " N"]':
        """The code of each point.

        A class with a logit of its own is decided where its probability is above 0.5 (strictly, as in the
        paper). Of several exclusive classes the largest logit wins, the background being the first; the
        earlier class wins a tie.
        """
        import torch

        if self._separate(logits):
            bits = 1 << torch.arange(logits.shape[1], device=logits.device)
            return ((logits > 0) * bits.byte()).sum(1, dtype=torch.uint8)
        return logits.argmax(1).to(torch.uint8)

    def margins(self, logits: 'Float[Tensor, "N K"]') -> 'Float[Tensor, "N C"]':
        """How far every foreground class is from being decided; positive where it is decided.

        The margin is the class's own logit, or of exclusive classes its logit less the largest other one.
        """
        import torch

        if self._separate(logits):
            return logits
        largest, second = logits.topk(2, 1).values.T[..., None]
        foreground = logits[:, 1:]
        return foreground - torch.where(foreground == largest, second, largest)

    def probabilities(
        self, logits: 'Float[Tensor, "N K"]', temperature: float = 1.0
    ) -> 'Float[Tensor, "N C"]':
        """Probability of every foreground class, in float32.

        Args:
            temperature: the divisor of the logits, which changes no decision.
        """
        logits = logits.float() / temperature
        return logits.sigmoid() if self._separate(logits) else logits.softmax(1)[:, 1:]

    def decide_probabilities(self, probabilities: 'Float[Tensor, "C X Y Z"]') -> 'UInt8[Tensor, "X Y Z"]':
        """The code of each voxel from probabilities of the foreground classes, decided as logits are."""
        import torch

        if self.independent:
            bits = 1 << torch.arange(self.classes, device=probabilities.device).byte()
            return ((probabilities > 0.5) * bits[:, None, None, None]).sum(0, dtype=torch.uint8)
        background = 1 - probabilities.sum(0)
        largest, index = probabilities.max(0)
        return torch.where(largest > background, index + 1, 0).to(torch.uint8)

    def mean_logits(self, parts: 'Sequence[Float[Tensor, "N K"]]') -> 'Float[Tensor, "N K"]':
        """Logits of the mean of the probabilities that several logits stand for."""
        import torch

        logits = torch.stack(list(parts)).double()
        if self._separate(logits):
            return logits.sigmoid().mean(0).logit(1e-15).float()
        return (logits.log_softmax(2).logsumexp(0) - math.log(len(parts))).float()
