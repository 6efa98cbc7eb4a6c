"""Occupancy networks: O-Net, OSS-Net A to D and whatever else their configuration spans.

Letters: B batch, C channels, N points, P patch edge, K logits, O outputs, X Y Z voxel axes of the working
volume, x y z those of the downscaled one.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ossnet.models.configs import OccupancyConfig
from ossnet.models.decoder import Decoder
from ossnet.models.encoder import Encoder, Latent
from ossnet.models.feature_query import query_features
from ossnet.models.kernels.precision import compute_dtype
from ossnet.models.patch_encoder import PatchEncoder

__all__ = ["Latent", "OccupancyNetwork", "Patches", "Prediction"]

Patches = Float[Tensor, "B N Cp P P P"] | tuple[Tensor, ...] | None
"""Patches of points: one tensor, or one of local and one of mid-range channels, which may differ in
precision."""


class Prediction(NamedTuple):
    """The result of a forward pass."""

    logits: Float[Tensor, "B N K"]
    """Logits of the points, float32: before sigmoid or softmax."""
    auxiliary: Float[Tensor, "B classes x y z"] | None
    """Logits of the encoder's coarse segmentation, float32; None without the head."""
    distances: Float[Tensor, "B N classes"] | None = None
    """Signed distance of the points to each class's surface, negative inside, in units of what it was trained
    with (`sampling.distance_reach`, mm), float32; None without the head."""


class OccupancyNetwork(nn.Module):
    """Decides point by point: an encoder of the whole volume, an encoder of patches, a decoder of points.

    The presets keep what the published weights need (Reich et al., BMVC 2021, as its code has it): raw voxel
    coordinates, one batch mean and variance over all decoder features, one latent vector a block in C and D.
    Fixed for all: mid-range patches are averaged in inference as in training, and any number of outputs and
    any volume shape work.
    """

    def __init__(self, config: OccupancyConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        edge, channels = config.patch_edge, config.patch_channels
        self.patch_encoder = PatchEncoder(channels, edge) if channels else None
        self.decoder = Decoder(config)

    def forward(
        self,
        encoder_input: Float[Tensor, "B C x y z"],
        coordinates: Float[Tensor, "B N 3"],
        patches: Patches,
        grid_shape: Sequence[int],
    ) -> Prediction:
        """Logits of points and, with the auxiliary head, of the coarse segmentation.

        Args:
            encoder_input: the working volume averaged over cubes of `encoder_downscale` voxels.
            coordinates: in [-1, 1]; the center of voxel i on an axis of X voxels is -1 + 2 i / (X - 1).
            patches: around each point, local channels first, then mid-range ones averaged to P; the two kinds
                together or in a tensor each, of any precision; None without.
            grid_shape: X, Y, Z of the working volume, which coordinates refer to.

        Raises:
            ValueError: a shape that does not fit the configuration.
        """
        latent = self.encode(encoder_input)
        outputs = self._decode(latent, coordinates, patches, grid_shape)
        logits, distances = outputs.tensor_split([self.config.logits], 2)
        return Prediction(
            logits,
            None if latent.auxiliary is None else latent.auxiliary.float(),
            distances if self.config.distance_head else None,
        )

    def parts(self) -> dict[str, list[nn.Module]]:
        """The network's modules by the names under which their memory is reported."""
        patches = [] if self.patch_encoder is None else [self.patch_encoder]
        return {"encoder": [self.encoder], "patches": [*patches], "decoder": [self.decoder]}

    def encode(self, encoder_input: Float[Tensor, "B C x y z"]) -> Latent:
        """Latent vectors of volumes; they serve any number of calls of `decode`."""
        self._expect("encoder_input", encoder_input, (None, self.config.in_channels, None, None, None))
        return self.encoder(encoder_input)

    def decode(
        self,
        latent: Latent,
        coordinates: Float[Tensor, "B N 3"],
        patches: Patches,
        grid_shape: Sequence[int],
    ) -> Float[Tensor, "B N K"]:
        """Logits of points, float32; in evaluation without gradients they are computed a part at a time."""
        return self._decode(latent, coordinates, patches, grid_shape)[..., : self.config.logits]

    def _decode(
        self, latent: Latent, coordinates: Tensor, patches: Patches, grid_shape: Sequence[int]
    ) -> Float[Tensor, "B N O"]:
        batch, points = len(latent.vectors), coordinates.shape[1]
        self._expect("coordinates", coordinates, (batch, points, 3))
        located, center = self._locate(coordinates, grid_shape)
        known = [located]
        if self.patch_encoder is not None:
            known.append(self.patch_encoder(*self._patch_tensors(patches, batch, points)))
        if latent.maps:
            known.append(query_features(latent.maps, coordinates, grid_shape))
        precision = compute_dtype(located)
        features = torch.cat([each.to(precision) for each in known], 2)
        return self.decoder(features, latent.vectors, center).float()

    def _patch_tensors(self, patches: Patches, batch: int, points: int) -> tuple[Tensor, ...]:
        """The patches' tensors, checked: all channels, or the local and the mid-range ones."""
        edges = (self.config.patch_edge,) * 3
        if not isinstance(patches, tuple):
            self._expect("patches", patches, (batch, points, self.config.patch_channels, *edges))
            assert patches is not None
            return (patches,)
        kinds = self.config.local_patch + self.config.mid_range_patch
        if len(patches) != kinds:
            msg = f"patches: expected {kinds} tensors, local before mid-range, found {len(patches)}"
            raise ValueError(msg)
        for each in patches:
            self._expect("patches", each, (batch, points, self.config.in_channels, *edges))
        return patches

    def _locate(self, coordinates: Tensor, grid_shape: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Coordinates as the weights expect them, measured from a center that the first layer adds back.

        Voxel indices counted from the middle voxel stay exact in half precision.
        """
        if self.config.coordinates == "normalized":
            return coordinates, coordinates.new_zeros(3)
        half = coordinates.new_tensor([(edge - 1) / 2 for edge in grid_shape])
        center = coordinates.new_tensor([edge // 2 for edge in grid_shape])
        return coordinates * half + (half - center), center

    @staticmethod
    def _expect(name: str, tensor: Tensor | None, shape: tuple[int | None, ...]) -> None:
        found = None if tensor is None else tuple(tensor.shape)
        fits = found is not None and len(found) == len(shape)
        if not fits or any(want not in (None, have) for want, have in zip(shape, found or (), strict=True)):
            wanted = ", ".join("any" if want is None else str(want) for want in shape)
            msg = f"{name}: expected shape [{wanted}], found {found}"
            raise ValueError(msg)
