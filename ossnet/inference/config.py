"""How whole volumes are predicted. Light: no torch here, so that a command line can read it."""

from dataclasses import dataclass
from typing import Literal

Precision = Literal["float32", "bf16"]
Method = Literal["dense", "hierarchical", "paper", "paper-guided"]
Axis = Literal["R", "A", "S"]
MeshFormat = Literal["ply", "stl", "obj"]


@dataclass(frozen=True)
class InferenceConfig:
    """Settings of memory and speed."""

    method: Method = "hierarchical"
    """Of occupancy networks. hierarchical: lattices, then every voxel that could be something else, then an
    audit of what was skipped. dense: decide every voxel. paper, paper-guided: as the paper does, which loses
    whole pieces that hide between points 4 voxels apart or outside the coarse prediction."""
    points_per_chunk: int = 2**14
    """Points an occupancy network decodes at once: the setting of its memory."""
    refine_threshold: float = 0.02
    """hierarchical: the probability of a class, by the encoder's coarse prediction or by what points around
    say, from which a voxel is asked."""
    similarity_budget: float = 0.1
    """hierarchical: what looks like a class that was found is asked, the likeliest first, until as many were
    asked in vain as half of those up to the last find, and besides this share of what was asked before (8192
    at least). Less is faster and may lose single voxels."""
    dense_max_voxels: int = 2**17
    """hierarchical: volumes of fewer voxels are decided densely, which takes seconds: there is little to
    skip."""
    audit_points: int = 2048
    """hierarchical: voxels drawn at random from the skipped ones and asked after all; if one of them was
    filled in wrongly, every voxel is asked."""
    precision: Precision = "float32"
    """bf16: matrix products and convolutions in bfloat16."""
    flips: tuple[Axis, ...] = ()
    """Also look at the volume flipped along these axes, in every combination, and average the probabilities:
    the time of 2, 4 or 8 predictions. Only for networks that were trained with flips."""
    slices_per_chunk: int = 16
    """Slices a 2-D network sees at once."""
    window_overlap: float = 0.25
    """Share by which the windows of a U-Net trained on crops overlap along each axis."""

    def __post_init__(self) -> None:
        """Refuse what makes no sense, naming the field."""
        for name in ("points_per_chunk", "audit_points", "slices_per_chunk"):
            if getattr(self, name) < 1:
                msg = f"{name}: expected at least 1, found {getattr(self, name)}"
                raise ValueError(msg)
        if self.dense_max_voxels < 0:
            msg = f"dense_max_voxels: expected a number of voxels from 0, found {self.dense_max_voxels}"
            raise ValueError(msg)
        if not 0 <= self.window_overlap < 1:
            msg = f"window_overlap: expected a share from 0 to below 1, found {self.window_overlap}"
            raise ValueError(msg)
        if not 0 < self.similarity_budget <= 1:
            msg = f"similarity_budget: expected a share above 0, at most 1, found {self.similarity_budget}"
            raise ValueError(msg)
        if not 0 < self.refine_threshold <= 0.5:
            msg = f"refine_threshold: expected a probability in (0, 0.5], found {self.refine_threshold}"
            raise ValueError(msg)
