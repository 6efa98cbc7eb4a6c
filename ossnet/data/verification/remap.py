"""The probable meaning of undeclared label values."""

import shlex
from collections.abc import Mapping, Sequence
from math import isfinite

from ossnet.data.labels.task import BACKGROUND
from ossnet.data.verification.issues import CaseSummary, LabelRemap

_BRATS = {"3": "4", "4": "3"}
_IGNORED = "255"
_MAX_VALUES = 32  # more odd values are no label


def suggest_remaps(views: Sequence[CaseSummary], labels: Mapping[str, int]) -> tuple[LabelRemap, ...]:
    """A meaning for each value that is neither background nor declared, where there is a probable one."""
    holders: dict[str, list[str]] = {}
    for view in views:
        for value in view.voxels:
            holders.setdefault(value, []).append(view.case)
    names = {str(BACKGROUND): "background", **{str(value): name for name, value in labels.items()}}
    odd = sorted((value for value in holders.keys() - names.keys() if isfinite(float(value))), key=float)
    meanings = {value: _meaning(value, names, holders) for value in odd}
    by_order = _by_order([value for value in odd if meanings[value] is None], names, holders)
    proposals = []
    for value in odd if len(odd) <= _MAX_VALUES else ():
        meaning = meanings[value] or by_order.get(value)
        if meaning is not None:
            target, why = meaning
            proposals.append(LabelRemap(value, names[target], int(target), tuple(holders[value]), why))
    return tuple(proposals)


def option(remap: Sequence[LabelRemap], labels: Mapping[str, int]) -> str | None:
    """The `--labels` of `ossnet prepare` that does it; None where nothing whole is to be changed."""
    changes: dict[str, list[str]] = {}
    for each in remap:
        if each.value.lstrip("-").isdigit():
            changes.setdefault(each.name, [str(labels.get(each.name, BACKGROUND))]).append(each.value)
    texts = [f"{name}={','.join(values)}" for name, values in changes.items()]
    return f"--labels {shlex.join(texts)}" if texts else None


def _meaning(
    value: str, names: Mapping[str, str], holders: Mapping[str, Sequence[str]]
) -> tuple[str, str] | None:
    foreground = [known for known in names if known != str(BACKGROUND)]
    if float(value) != round(float(value)):
        target = min(names, key=lambda known: abs(float(known) - float(value)))
        return target, "the nearest label; a label that was interpolated is better exported anew"
    other = _BRATS.get(value)
    if other is not None and "enhancing" in names.get(other, ""):
        return other, "enhancing tumour is 4 up to BraTS 2021 and 3 from BraTS 2023 on"
    alone = len(foreground) == 1 and not set(holders[value]) & set(holders.get(foreground[0], ()))
    if value == _IGNORED and alone:
        return foreground[0], "masks that were saved as pictures hold 255 inside"
    if value == _IGNORED:
        return str(BACKGROUND), "255 often marks voxels to ignore"
    return (str(BACKGROUND), "negative values are no class") if float(value) < 0 else None


def _by_order(
    odd: Sequence[str], names: Mapping[str, str], holders: Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, str]]:
    """Where as many declared labels never occur as odd values do, they are matched by rising value."""
    unused = sorted(
        (known for known in names if known not in holders and known != str(BACKGROUND)), key=float
    )
    if len(odd) != len(unused):
        return {}
    why = "the only way to match values and labels by their order"
    return {value: (target, why) for value, target in zip(odd, unused, strict=True)}
