"""Coarse to fine without losing anything: a lattice, every voxel in doubt, an audit of the rest.

Letters: C channels, K foreground classes, X Y Z voxel axes in nibabel's order; x y z cells of a lattice.
"""

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from ossnet.data.regions import in_class
from ossnet.inference.audit import Audit, audit
from ossnet.inference.decision import decide, probabilities
from ossnet.inference.lattice import Decided, enlarge, over_corners
from ossnet.inference.occupancy import EncodedVolume
from ossnet.inference.resemblance import ask_alike
from ossnet.inference.settings import InferenceConfig

WITH_PRIOR = 4
"""Voxels between points of the lattice where a coarse prediction tells where to look, as in the paper."""
WITHOUT_PRIOR = 2
"""The same for networks without one: every voxel then has a point of the lattice beside it."""


def hierarchical_classes(
    volume: EncodedVolume,
    image: Float[Tensor, "C X Y Z"],
    settings: InferenceConfig,
    *,
    overlapping: bool,
) -> tuple[UInt8[Tensor, "X Y Z"], Audit]:
    """Codes, as `decide` gives them, most of them without asking the network.

    A cell between eight points of a lattice is filled with their code where they agree and no other class
    has a probability above `settings.suspicion`: at none of them, nor in the encoder's coarse prediction
    (of networks with the auxiliary head). Every voxel of the other cells is asked, then whatever touches a
    change of code, so that pieces are followed into cells that were filled. Where the network sees
    patches, so is every voxel that looks like what was found. Then voxels drawn from the filled ones are
    asked; if one was wrong, all are.
    """
    decided = Decided(volume, overlapping=overlapping, device=image.device)
    stride = WITHOUT_PRIOR if volume.prior is None else WITH_PRIOR
    doubtful, chances = _first_lattice(decided, stride, settings.suspicion)
    decided.ask(enlarge(doubtful, stride, volume.shape) & ~decided.known)
    decided.follow()
    if volume.sees_voxels:
        ask_alike(decided, image, chances.logit(1e-4), stride)
    found = audit(decided, settings.audit_points)
    if found.wrong:
        decided.ask(~decided.known)
    return decided.codes, found


def _first_lattice(
    decided: Decided, stride: int, suspicion: float
) -> tuple[Bool[Tensor, "x y z"], Float[Tensor, "K x y z"]]:
    """Decide a lattice and fill the volume from it; the cells in doubt, and probabilities at the points."""
    volume, overlapping = decided.volume, decided.overlapping
    shape = [-(-edge // stride) for edge in volume.shape]
    device = decided.codes.device
    points = torch.cartesian_prod(*(torch.arange(edge, device=device) for edge in shape)) * stride
    codes, chances = [], []
    for _, logits in volume.points(points):
        codes.append(decide(logits, overlapping=overlapping))
        chances.append(probabilities(logits, overlapping=overlapping))
    coarse = torch.cat(codes).reshape(shape)
    decided.codes = enlarge(coarse, stride, volume.shape)
    decided.known[::stride, ::stride, ::stride] = True
    exact = coarse.float()
    largest, smallest = over_corners(torch.stack([exact, -exact]))
    of_points = torch.cat(chances).T.reshape(-1, *shape)
    suspected = over_corners(of_points)
    if volume.prior is not None:
        suspected = torch.maximum(suspected, volume.prior_at(points + stride // 2).T.reshape(-1, *shape))
    theirs = [in_class(coarse, index, overlapping=overlapping) for index in range(len(suspected))]
    others = (suspected > suspicion) & ~torch.stack(theirs)
    return (largest != -smallest) | others.any(0), of_points
