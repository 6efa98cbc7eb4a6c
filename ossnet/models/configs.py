"""Configurations of networks, as frozen dataclasses; no torch here, so that a command line loads fast."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Self

if TYPE_CHECKING:
    from torch import nn

Grid = tuple[int, int, int]


@dataclass(frozen=True)
class NetworkConfig:
    """The base of every network's configuration; a plug-in's is a frozen dataclass below `DenseConfig`.

    Every field is an option of the command line, a path of search spaces and a part of checkpoints. Fields
    are numbers, strings, booleans and tuples of them.
    """

    kind: str = field(default="", init=False)
    """Tells the configurations of networks apart; of a plug-in the name of its entry point."""
    name: str = ""
    """The preset it began as."""
    in_channels: int = 1
    """Modalities of a scan."""
    classes: int = 1
    """Foreground classes (the background is not counted)."""
    overlapping: bool = False
    """Classes are regions that may overlap: one sigmoid each instead of a softmax."""

    @property
    def logits(self) -> int:
        """Outputs a voxel: one for a single class, one a region, else the background's and one a class."""
        return self.classes if self.classes == 1 or self.overlapping else self.classes + 1

    @property
    def grid_multiple(self) -> int:
        """The number of which a working grid's edges are multiples, so that every level halves evenly."""
        return 1

    def build(self) -> "nn.Module":
        """The network with fresh weights, a `DenseNetwork` or an `OccupancyNetwork` with this as `config`."""
        raise NotImplementedError

    def sized_for(self, largest: Sequence[int]) -> Self:
        """A copy with a depth that suits volumes of up to `largest` voxels along X, Y and Z."""
        return self

    def memory_savings(self) -> dict[str, Any]:
        """Changes that make training take less memory, each by itself: fields and their new values."""
        return {}

    @classmethod
    def presets(cls) -> Mapping[str, Self]:
        """The named networks that a plug-in adds, for one channel and one class; by default one."""
        kind = str(cls.kind)
        return {kind: cls(name=kind)}

    @staticmethod
    def kinds() -> Mapping[str, type["NetworkConfig"]]:
        """Every kind of network, built in or installed, with its class."""
        from ossnet.models.presets import network_kinds

        return network_kinds()


@dataclass(frozen=True)
class DenseConfig(NetworkConfig):
    """A network that decides all voxels of a grid at once: the base of plug-ins and of the U-Nets.

    It trains on whole working volumes, on crops (`sampling.crop_shape`) or on slices, and predicts in sliding
    windows of the size that it was trained on.
    """

    spatial_dims: Literal[2, 3] = 3
    """3 for volumes, 2 for slices."""


@dataclass(frozen=True)
class OccupancyConfig(NetworkConfig):
    """An occupancy network: O-Net and OSS-Net A to D are five choices of its switches."""

    kind: Literal["occupancy"] = field(default="occupancy", init=False)
    """Tells the configurations of networks apart."""
    name: str = "oss-net-c"
    """The preset it began as."""
    encoder_channels: tuple[int, ...] = (16, 32, 64, 128)
    """Width of each residual block of the encoder; every block halves the grid."""
    encoder_downscale: int = 2
    """The encoder sees the working volume averaged over cubes of this edge (voxels)."""
    latent_grid: Grid = (8, 8, 8)
    """Cells of the latent map, whatever the size of the volume."""
    skip_connections: bool = True
    """Every block contributes to the latent, and each decoder block has its own."""
    auxiliary_head: bool = True
    """A coarse segmentation from the encoder, for the auxiliary loss and as a prior in inference."""
    local_patch: bool = True
    """Feed the decoder the voxels around each point."""
    mid_range_patch: bool = False
    """Feed it also twice as wide a patch, averaged over 2x2x2 voxels."""
    feature_query: bool = False
    """Feed it the encoder's feature maps of every scale, interpolated at the point (beyond the paper)."""
    pyramid_channels: int = 0
    """Pass these maps through a top-down path first, a feature pyramid whose levels have so many channels at
    most, and never more than the map they are of (beyond the paper); 0: none."""
    patch_edge: int = 7
    """Edge of a patch as the network sees it: odd, 3 to 11."""
    decoder_width: int = 512
    """Features of the decoder's residual blocks."""
    decoder_blocks: int = 5
    """Residual blocks of the decoder."""
    coordinates: Literal["voxel", "normalized"] = "voxel"
    """The decoder's input coordinates: raw voxel indices as in the paper, or [-1, 1]."""
    conditional_norm: Literal["scalar", "feature"] = "scalar"
    """The decoder's batch statistics: one pair over all features as in the paper, or one pair a feature."""
    distance_head: bool = False
    """Predict in training also how far each point lies from each class's surface (beyond the paper)."""
    checkpoint_activations: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""

    def __post_init__(self) -> None:
        """Reject what cannot be built, naming the field."""
        for name in ("in_channels", "classes", "encoder_downscale", "decoder_width", "decoder_blocks"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        _require_widths("encoder_channels", self.encoder_channels)
        _require(
            len(self.latent_grid) == 3 and min(self.latent_grid) >= 1 and math.prod(self.latent_grid) >= 2,
            "latent_grid",
            self.latent_grid,
            "three positive numbers with two cells or more",
        )
        least = "0, or a positive number with feature_query"
        pyramid = self.pyramid_channels
        _require(pyramid == 0 or (pyramid > 0 and self.feature_query), "pyramid_channels", pyramid, least)
        odd = self.patch_edge % 2 == 1 and 3 <= self.patch_edge <= 11
        _require(odd, "patch_edge", self.patch_edge, "an odd number from 3 to 11")
        _require_choice("coordinates", self.coordinates, ("voxel", "normalized"))
        _require_choice("conditional_norm", self.conditional_norm, ("scalar", "feature"))

    @property
    def grid_multiple(self) -> int:
        """The encoder's downscaling and the halving of each of its blocks."""
        return self.encoder_downscale * 2 ** len(self.encoder_channels)

    def build(self) -> "nn.Module":
        """An `OccupancyNetwork` with fresh weights."""
        from ossnet.models.occupancy import OccupancyNetwork

        return OccupancyNetwork(self)

    def memory_savings(self) -> dict[str, Any]:
        """Recomputed activations, and half the decoder's width."""
        savings: dict[str, Any] = {} if self.checkpoint_activations else {"checkpoint_activations": True}
        return savings | ({"decoder_width": self.decoder_width // 2} if self.decoder_width > 1 else {})

    @property
    def patch_channels(self) -> int:
        """Channels of a point's patch, local ones first; 0 without patches."""
        return self.in_channels * (self.local_patch + self.mid_range_patch)

    @property
    def outputs(self) -> int:
        """Number of outputs of the decoder for a point: its logits and, with the distance head, a distance
        for each class."""
        return self.logits + (self.classes if self.distance_head else 0)

    @property
    def map_widths(self) -> tuple[int, ...]:
        """Channels of the encoder's maps, finest first; the first block has one before it halves, too."""
        return (self.encoder_channels[0], *self.encoder_channels)

    @property
    def query_widths(self) -> tuple[int, ...]:
        """Channels of the maps that are interpolated at points, finest first; empty without."""
        if not self.feature_query:
            return ()
        most = self.pyramid_channels or max(self.map_widths)
        return tuple(min(width, most) for width in self.map_widths)

    @property
    def query_channels(self) -> int:
        """Features of a point that are interpolated from the encoder's maps; 0 without."""
        return sum(self.query_widths)

    @property
    def point_features(self) -> int:
        """Features of a point in the decoder's input, besides its coordinates."""
        patch = self.patch_edge**3 if self.patch_channels else 0
        return patch + self.query_channels

    @property
    def latent_length(self) -> int:
        """Cells of the latent map."""
        return math.prod(self.latent_grid)

    @property
    def latent_channels(self) -> int:
        """Latent vectors of a volume: one, or one for the input and one for each decoder block."""
        return self.decoder_blocks + 1 if self.skip_connections else 1


@dataclass(frozen=True)
class LevelsConfig(DenseConfig):
    """The base of our U-Nets: levels, between which the grid is halved."""

    channels: tuple[int, ...] = (16, 32, 64, 128, 256)
    """Width of each level; the grid is halved between levels."""
    checkpoint_activations: bool = False
    """Recompute activations in the backward pass: less memory, a quarter to a third more time."""

    def __post_init__(self) -> None:
        """Reject what cannot be built, naming the field."""
        for name in ("in_channels", "classes"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        _require_widths("channels", self.channels)
        _require(len(self.channels) >= 2, "channels", self.channels, "two levels or more")
        _require_choice("spatial_dims", self.spatial_dims, (2, 3))

    @property
    def grid_multiple(self) -> int:
        """The halving between each two levels."""
        return 2 ** (len(self.channels) - 1)

    def sized_for(self, largest: Sequence[int]) -> Self:
        """A copy without the levels at which an axis would have less than one voxel."""
        axes, channels = largest[: self.spatial_dims], self.channels
        while len(channels) > 2 and min(axes) < 2 ** len(channels):
            channels = channels[:-1]
        return replace(self, channels=channels)

    def memory_savings(self) -> dict[str, Any]:
        """Recomputed activations, and half the channels."""
        savings: dict[str, Any] = {} if self.checkpoint_activations else {"checkpoint_activations": True}
        return savings | {"channels": tuple(max(width // 2, 1) for width in self.channels)}


@dataclass(frozen=True)
class UNetConfig(LevelsConfig):
    """A residual U-Net (MONAI's) on whole volumes or on slices, with instance normalization."""

    kind: Literal["unet"] = field(default="unet", init=False)
    """Tells the configurations of networks apart."""
    name: str = "unet-3d"
    """The preset it began as."""
    residual_units: int = 2
    """Convolutions in each residual unit."""

    def __post_init__(self) -> None:
        """Reject what cannot be built, naming the field."""
        super().__post_init__()
        _require(self.residual_units >= 1, "residual_units", self.residual_units, "at least 1")

    def build(self) -> "nn.Module":
        """A `UNet` with fresh weights."""
        from ossnet.models.unet import UNet

        return UNet(self)


@dataclass(frozen=True)
class ResidualEncoderUNetConfig(LevelsConfig):
    """A U-Net with a residual encoder and deep supervision, of the blocks of MONAI's `DynUNet`."""

    kind: Literal["residual-encoder-unet"] = field(default="residual-encoder-unet", init=False)
    """Tells the configurations of networks apart."""
    name: str = "residual-encoder-unet"
    """The preset it began as."""
    channels: tuple[int, ...] = (32, 64, 128, 256, 320, 320)
    """Width of each level; the grid is halved between levels."""
    deep_supervision: bool = True
    """Train coarser levels' own predictions too, but the two coarsest's, with half the weight of the level
    above."""

    @property
    def coarse_outputs(self) -> int:
        """Levels below the finest that predict in training."""
        return max(len(self.channels) - 3, 0) if self.deep_supervision else 0

    def build(self) -> "nn.Module":
        """A `ResidualEncoderUNet` with fresh weights."""
        from ossnet.models.residual_encoder_unet import ResidualEncoderUNet

        return ResidualEncoderUNet(self)


def _require(holds: bool, name: str, found: object, expected: str) -> None:
    if not holds:
        raise ValueError(f"{name}: expected {expected}, found {found!r}")


def _require_widths(name: str, widths: tuple[int, ...]) -> None:
    _require(len(widths) >= 1 and min(widths) >= 1, name, widths, "positive numbers, one or more")


def _require_choice(name: str, found: object, choices: tuple[object, ...]) -> None:
    _require(found in choices, name, found, "one of " + ", ".join(map(str, choices)))
