"""Segment new scans with a trained network; every result lies on its scan's own grid."""

import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal

from ossnet import cli


@dataclass(frozen=True)
class Predict:
    """Options of this job."""

    checkpoint: Path | None = None
    """Folder that training wrote; by default that of a short training on a phantom."""
    input: tuple[Path, ...] = ()
    """NIfTI files, one with all modalities or one a modality; or folders of a case or of cases. By default
    the phantom's."""
    output: Path | None = None
    """Folder for `<case>_seg.nii.gz`; by default runs/predict-DATE-TIME."""
    method: Literal["dense", "hierarchical", "paper", "paper-prior"] | None = None
    """Decide every voxel, or those that could be foreground; by default as the checkpoint says."""
    precision: Literal["float32", "bf16"] | None = None
    """bf16: matrix products in bfloat16; by default as the checkpoint says."""
    compile: bool = False
    """Have torch's compiler make the arithmetic between matrix products: worth its start of some seconds for
    many scans."""
    probabilities: bool = False
    """Write the probability of every class too, as NIfTI; every voxel is then decided."""
    mesh: Literal["ply", "stl", "obj"] | None = None
    """Write the surface of every class too, in the patient's millimetres."""
    smoothing: int = 0
    """Rounds of smoothing of the meshes; 10 takes the steps of the voxels off."""
    volumes: bool = False
    """Write the millilitres of every class too, as JSON."""
    device: str | None = None
    """Where to predict, as torch names it; by default a GPU if there is one."""
    json: bool = False
    """Print the result for machines, last and alone."""


def main() -> None:
    """Run the job."""
    options = cli.parse(Predict, description=str(__doc__))
    from ossnet.inference import Predictor
    from ossnet.inference.export import ExportConfig
    from ossnet.inference.inputs import find_scans
    from ossnet.inference.many import predict_scans
    from ossnet.tree import to_dict

    output = options.output or cli.new_folder("predict")
    checkpoint = options.checkpoint or _demo().checkpoint()
    predictor = Predictor.from_checkpoint(
        checkpoint,
        method=options.method,
        precision=options.precision,
        compiled=options.compile,
        device=options.device,
    )
    scans = find_scans(options.input or (_demo().scans(),), predictor.task)
    outcomes = []
    exported = ExportConfig(options.probabilities, options.mesh, options.smoothing, options.volumes)
    for outcome in predict_scans(predictor, scans, output, exported):
        outcomes.append(outcome)
        if outcome.problem is not None:
            print(f"error: {outcome.problem}", file=sys.stderr)
        elif not options.json:
            volumes = ", ".join(f"{name} {volume:.1f} ml" for name, volume in outcome.volumes_ml.items())
            print(f"{len(outcomes)}/{len(scans)} {outcome.case}: {volumes} ({outcome.seconds:.1f} s)")
    failed = sum(outcome.problem is not None for outcome in outcomes)
    if options.json:
        cli.finish_json({"failed": failed, "cases": to_dict(outcomes)})
    else:
        cli.finish(made={"segmentations": f"{len(outcomes) - failed} in {output}", "failed": failed})
    if failed:
        sys.exit(2)


def _demo() -> ModuleType:
    from ossnet.distributed import demo  # needs Ray, which predicting one's own scans does not

    return demo


if __name__ == "__main__":
    cli.run(main)
