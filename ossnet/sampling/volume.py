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
