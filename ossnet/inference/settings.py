"""How whole volumes are predicted. Light: no torch here, so that a command line can read it."""

from dataclasses import dataclass
from typing import Literal

Precision = Literal["float32", "bf16"]
Method = Literal["dense", "hierarchical"]


@dataclass(frozen=True)
class InferenceConfig:
    """Settings of memory and speed."""

    method: Method = "dense"
    """dense: an occupancy network decides every voxel. hierarchical: only those near a change of class on
    ever finer lattices; it can miss a whole piece that hides between points 4 voxels apart."""
    points_per_chunk: int = 2**14
    """Points an occupancy network decodes at once: the setting of its memory."""
    precision: Precision = "float32"
    """bf16: matrix products and convolutions in bfloat16."""
    slices_per_chunk: int = 16
    """Slices a 2-D network sees at once."""
    window_overlap: float = 0.25
    """Share by which the windows of a U-Net trained on crops overlap along each axis."""

    def __post_init__(self) -> None:
        """Refuse what makes no sense, naming the field."""
        for name in ("points_per_chunk", "slices_per_chunk"):
            if getattr(self, name) < 1:
                msg = f"{name}: expected at least 1, found {getattr(self, name)}"
                raise ValueError(msg)
        if not 0 <= self.window_overlap < 1:
            msg = f"window_overlap: expected a share from 0 to below 1, found {self.window_overlap}"
            raise ValueError(msg)
