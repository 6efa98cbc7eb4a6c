"""What a person may ask of predictions. Light: no torch here, so that a command line can read it."""

from dataclasses import dataclass

from ossnet.errors import UserError
from ossnet.inference.config import Axis, MeshFormat, Method, Precision


@dataclass(frozen=True)
class PredictConfig:
    """How to predict; what is not given is as the checkpoint says."""

    method: Method | None = None
    """Decide every voxel, or those that could be foreground."""
    precision: Precision | None = None
    """bf16: matrix products in bfloat16."""
    flips: tuple[Axis, ...] | None = None
    """Average over the scan flipped along these axes too, in every combination: R A S takes eight times as
    long. Only for networks that were trained with flips."""
    spacing: tuple[float, ...] = ()
    """Voxel size of the results in mm, one for all or along R, A and S; by default each scan's own. The
    network is asked right there."""
    compile: bool = False
    """Have torch's compiler make the arithmetic between matrix products: worth its start of some seconds for
    many scans."""
    device: str | None = None
    """Where to predict, as torch names it; by default a GPU if there is one."""

    def __post_init__(self) -> None:
        """Refuse what makes no sense, naming the field."""
        if len(self.spacing) not in (0, 1, 3) or not all(size > 0 for size in self.spacing):
            msg = f"spacing: expected one size in mm above 0, or three, found {self.spacing}"
            raise UserError(msg)


@dataclass(frozen=True)
class ExportConfig:
    """What to write beside the label map."""

    probabilities: bool = False
    """`<case>_CLASS_prob.nii.gz` for every class; every voxel is then decided, whatever the method."""
    uncertainty: bool = False
    """`<case>_uncertainty.nii.gz`, how unsure the network is from 0 to 1; every voxel is then decided."""
    mesh: MeshFormat | None = None
    """`<case>_CLASS.ply` (or stl, obj) for every class that is there, in the patient's millimeters."""
    smoothing: int = 0
    """Rounds of smoothing of the meshes, which keep the volume; 10 takes the steps of the voxels off."""
    volumes: bool = False
    """`<case>_volumes.json` with the milliliters of every class."""

    def __post_init__(self) -> None:
        """Refuse what makes no sense, naming the field."""
        if self.smoothing < 0:
            msg = f"smoothing: expected 0 rounds or more, found {self.smoothing}"
            raise UserError(msg)

    @property
    def of_probabilities(self) -> bool:
        """Whether something needs them."""
        return self.probabilities or self.uncertainty
