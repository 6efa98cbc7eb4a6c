"""Options of prediction and export; free of torch, so that a command line can read them."""

from dataclasses import dataclass
from typing import Literal

from ossnet.errors import UserError

Precision = Literal["float32", "bf16"]
Method = Literal["dense", "hierarchical", "paper", "paper-guided"]
Axis = Literal["R", "A", "S"]
MeshFormat = Literal["ply", "stl", "obj"]


@dataclass(frozen=True)
class InferenceConfig:
    """Settings of memory and speed, which a checkpoint stores."""

    method: Method = "hierarchical"
    """How occupancy networks are queried. hierarchical: lattices, then every voxel that could be something
    else, then an audit of what was skipped. dense: every voxel. paper, paper-guided: as the paper does, which
    loses connected components that hide between points 4 voxels apart or outside the coarse prediction."""
    points_per_chunk: int = 2**14
    """Points an occupancy network decodes at once, which decides its memory."""
    refine_threshold: float = 0.02
    """hierarchical: the probability of a class, by the encoder's coarse prediction or by the points around,
    from which a voxel is queried."""
    similarity_budget: float = 0.1
    """hierarchical: voxels that resemble a class already found are queried, the likeliest first, until half
    as many were queried without a hit as up to the last hit, and in addition this fraction of the voxels
    queried before (8192 at least). Less is faster and may lose single voxels."""
    dense_max_voxels: int = 2**14
    """hierarchical: volumes of fewer voxels are predicted densely: there is little to skip."""
    audit_points: int = 2048
    """hierarchical: voxels drawn at random from the skipped ones and queried after all; if one of them was
    interpolated wrongly, every voxel is queried."""
    precision: Precision = "float32"
    """bf16: matrix products and convolutions in bfloat16."""
    flips: tuple[Axis, ...] = ()
    """Also predict the volume flipped along these axes, in every combination, and average the probabilities:
    the time of 2, 4 or 8 predictions. Only for networks that were trained with flips."""
    slices_per_chunk: int = 16
    """Slices a 2-D network sees at once."""
    window_overlap: float = 0.25
    """Fraction by which the windows of a U-Net trained on crops overlap along each axis."""

    def __post_init__(self) -> None:
        """Reject values that make no sense, naming the field.

        Raises:
            UserError: a value outside its range.
        """
        for name in ("points_per_chunk", "audit_points", "slices_per_chunk"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        voxels, overlap = self.dense_max_voxels, self.window_overlap
        _require(voxels >= 0, "dense_max_voxels", voxels, "a number of voxels from 0")
        _require(0 <= overlap < 1, "window_overlap", overlap, "a fraction from 0 to below 1")
        budget, threshold = self.similarity_budget, self.refine_threshold
        _require(0 < budget <= 1, "similarity_budget", budget, "a fraction above 0, at most 1")
        _require(0 < threshold <= 0.5, "refine_threshold", threshold, "a probability in (0, 0.5]")


@dataclass(frozen=True)
class PredictConfig:
    """How to predict; what is left out is as the checkpoint says."""

    method: Method | None = None
    """Decide every voxel, or those that could be foreground."""
    precision: Precision | None = None
    """bf16: matrix products in bfloat16."""
    flips: tuple[Axis, ...] | None = None
    """Average over the scan flipped along these axes too, in every combination: R A S takes eight times as
    long. Only for networks that were trained with flips."""
    spacing: tuple[float, ...] = ()
    """Voxel size of the results in mm, one for all or along R, A and S; by default each scan's own. The
    network is queried right there."""
    compile: bool = False
    """Have torch's compiler make the arithmetic between matrix products: worth its start of some seconds for
    many scans."""
    device: str | None = None
    """Where to predict, as torch names it; by default a GPU if there is one."""

    def __post_init__(self) -> None:
        """Reject voxel sizes that make no sense.

        Raises:
            UserError: a size that is not above 0, or another number of them than 1 or 3.
        """
        valid = len(self.spacing) in (0, 1, 3) and all(size > 0 for size in self.spacing)
        _require(valid, "spacing", self.spacing, "one size in mm above 0, or three")


@dataclass(frozen=True)
class ExportConfig:
    """What to write in addition to the label map."""

    probabilities: bool = False
    """`<case>_CLASS_prob.nii.gz` for every class; every voxel is then decided, whatever the method."""
    uncertainty: bool = False
    """`<case>_uncertainty.nii.gz`, how uncertain the network is from 0 to 1; every voxel is then decided."""
    mesh: MeshFormat | None = None
    """`<case>_CLASS.ply` (or stl, obj) for every class that is present, in the patient's millimeters."""
    smoothing: int = 0
    """Rounds of smoothing of the meshes, which keep the volume; 10 removes the steps of the voxels."""
    volumes: bool = False
    """`<case>_volumes.json` with the milliliters of every class."""
    dicom_seg: bool = False
    """`<case>_seg.dcm` for scans that are DICOM series: a DICOM segmentation of the same study. Needs
    ossnet[dicom]."""

    def __post_init__(self) -> None:
        """Reject a negative number of rounds.

        Raises:
            UserError: `smoothing` is below 0.
        """
        _require(self.smoothing >= 0, "smoothing", self.smoothing, "0 rounds or more")

    @property
    def needs_probabilities(self) -> bool:
        """Whether a file to write is made from probabilities."""
        return self.probabilities or self.uncertainty


def _require(condition: bool, name: str, found: object, expected: str) -> None:
    if not condition:
        raise UserError(name, expected=expected, found=str(found))
