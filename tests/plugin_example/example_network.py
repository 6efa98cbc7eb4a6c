"""A network in one file: its configuration, which is all that ossnet needs, its module and its presets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from torch import Tensor, nn

from ossnet.models import DenseConfig, DenseNetwork


@dataclass(frozen=True)
class PlainStackConfig(DenseConfig):
    """Convolutions one after another, at one half of the resolution."""

    kind: Literal["plain-stack"] = field(default="plain-stack", init=False)
    """The name of the entry point."""
    width: int = 16
    """Features of every layer."""
    depth: int = 3
    """Layers between the first and the last one."""

    def __post_init__(self) -> None:
        """Reject what cannot be built, naming the field."""
        if self.width < 1:
            raise ValueError(f"width: expected at least 1, found {self.width}")
        if self.spatial_dims != 3:
            raise ValueError(f"spatial_dims: expected 3, found {self.spatial_dims}")

    @property
    def grid_multiple(self) -> int:
        """The network halves the grid once."""
        return 2

    def build(self) -> nn.Module:
        """The network with fresh weights."""
        return PlainStack(self)

    def memory_savings(self) -> dict[str, Any]:
        """Half the width."""
        return {"width": self.width // 2} if self.width > 1 else {}

    @classmethod
    def presets(cls) -> Mapping[str, Self]:
        """Two networks; without this method there is one, called after the kind."""
        return {
            "plain-stack": cls(name="plain-stack"),
            "plain-stack-wide": cls(name="plain-stack-wide", width=64),
        }


class PlainStack(DenseNetwork):
    """The module; `forward` of the base pads what comes to an even grid and cuts what goes."""

    def __init__(self, config: PlainStackConfig) -> None:
        super().__init__(config)
        inner = [
            layer
            for _ in range(config.depth)
            for layer in (nn.Conv3d(config.width, config.width, 3, padding=1), nn.ReLU())
        ]
        self.layers = nn.Sequential(
            nn.Conv3d(config.in_channels, config.width, 2, stride=2),
            nn.ReLU(),
            *inner,
            nn.ConvTranspose3d(config.width, config.logits, 2, stride=2),
        )

    def voxel_logits(self, image: Tensor) -> Tensor:
        """Logits `[B K X Y Z]` of an image `[B C X Y Z]`."""
        return self.layers(image)
