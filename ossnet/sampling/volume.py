"""A case on its way to the network's device: stored voxels, two bytes each, with its label.

Letters: C channels, X Y Z voxel axes in nibabel's order.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor

from ossnet.data.imaging.geometry import Spacing
from ossnet.data.store.case_file import StoredCase
from ossnet.data.store.quantization import Quantization
from ossnet.sampling.sampler import SampleKey
from ossnet.sampling.transforms.planes import as_tensor


@dataclass(frozen=True)
class Volume:
    """A case that a training step draws from."""

    key: SampleKey
    """The draw."""
    voxels: Shaped[Tensor, "C X Y Z"]
    """As stored: float16, or int16 with `scales`."""
    label: UInt8[Tensor, "X Y Z"]
    """Label indices: 0 background, then the task's labels in order."""
    spacing: Spacing
    """Voxel size in mm along X, Y and Z."""
    scales: tuple[Quantization, ...] = ()
    """The quantization of each channel where voxels are whole numbers."""
    owned: bool = False
    """Whether nothing else needs the voxels, so that they may be changed."""
    memory: object = None
    """Owner of the voxels' memory, which is used again when the owner is gone."""

    @classmethod
    def of(cls, stored: StoredCase, key: SampleKey) -> "Volume":
        """The volume over a stored case's memory, without a copy."""
        return cls(key, as_tensor(stored.voxels), as_tensor(stored.label), stored.spacing, stored.scales)

    @property
    def nbytes(self) -> int:
        """Bytes that cross to the device."""
        return self.voxels.nbytes + self.label.nbytes

    def to(self, device: torch.device) -> "Volume":
        """The volume on a device: a copy that does not wait, or the volume itself where it is there."""
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in ("voxels", "label")}
        return replace(self, **moved)

    def image(self) -> Float[Tensor, "C X Y Z"]:
        """Normalized intensities: the voxels themselves, or whole numbers decoded to float32."""
        if not self.scales:
            return self.voxels
        decoded = self.voxels.float()
        for channel, scale in zip(decoded, self.scales, strict=True):
            channel.sub_(scale.zero).mul_(scale.step)
        return decoded


class VolumeCache:
    """Volumes that stay on the device for a whole run: the first that fit, as every epoch needs all.

    Args:
        limit: bytes of volumes to keep, at most; 0 keeps none.
    """

    def __init__(self, limit: int, device: torch.device) -> None:
        self._limit, self._device = limit, device
        self._kept: dict[str, Volume] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of the volumes that are kept."""
        return sum(volume.nbytes for volume in self._kept.values())

    def get(self, case: str) -> Volume | None:
        """The volume of a case on the device, where it is kept; any thread may ask."""
        return self._kept.get(case)

    def send(self, volume: Volume) -> Volume:
        """The volume on the device, and kept there if there is room."""
        kept = self._kept.get(volume.key.case)
        if kept is not None:
            return replace(kept, key=volume.key)
        sent = volume.to(self._device)
        copied = sent.voxels is not volume.voxels
        if self.nbytes + sent.nbytes <= self._limit:
            self._kept[volume.key.case] = replace(sent, memory=None) if copied else sent
            return sent
        return replace(sent, owned=volume.owned or copied)
