"""Training targets from a source's labels: its own labels, a preset, or regions and labels that the user
names."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ossnet.config_tree import unknown_name
from ossnet.data.labels.scheme import MAX_REGIONS
from ossnet.data.labels.task import BACKGROUND, BACKGROUND_NAME
from ossnet.errors import UserError

Preset = Literal["labels", "foreground", "whole-tumour", "liver", "brats-regions", "liver-and-tumour"]
Labels = Mapping[str, int]
Regions = dict[str, tuple[str, ...]]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_TUMOUR = re.compile(r"(liver[-_ ]?)?(tumou?r|cancer|lesion)s?")
_BRATS_VALUES = {1: "core", 2: "edema", 4: "enhancing"}
"""Meaning of BraTS's label values up to 2021; 1, 2 and 3 mean one thing in BraTS 2023 and another in MSD."""


@dataclass(frozen=True)
class LabelMapping:
    """Which voxel values of files mean which label."""

    labels: dict[str, int]
    """Name and the value that stands for it, by rising value."""
    merged: dict[str, tuple[int, ...]]
    """Further values that mean a label, or `background`."""


def map_labels(declared: Sequence[str], labels: Labels) -> LabelMapping:
    """A source's labels with the user's changes, each `NAME=VALUE[,VALUE...]`.

    A name takes its values from whatever had them, so that labels can be renamed (`core=1`), merged
    (`tumour=1,2,4`) and odd values be read as what they mean (`background=0,255`, `enhancing=4,3`). The first
    value is the one that predictions are written with. Values may be given by the name that they had.

    Raises:
        UserError: a text of another form, or an unknown name (names the nearest).
    """
    where = f"--labels {' '.join(declared)}"
    values: dict[str, tuple[int, ...]] = {name: (value,) for name, value in labels.items()}
    changes = {
        name: tuple(_value(part, labels, f"--labels {text}") for part in parts)
        for text, name, parts in _parse(declared, "labels", "enhancing=4,3")
    }
    taken = {value for members in changes.values() for value in members}
    if sum(map(len, changes.values())) > len(taken):
        raise UserError(where, expected="each value once", found="one twice", remedy="give it to one label")
    left = {name: tuple(value for value in has if value not in taken) for name, has in values.items()}
    background = tuple(value for value in changes.pop(BACKGROUND_NAME, ()) if value != BACKGROUND)
    if BACKGROUND in {value for members in changes.values() for value in members}:
        raise UserError(
            where,
            expected="0 to stay the background",
            found="it in a label",
            remedy="remove it from the label",
        )
    named = {name: has for name, has in (left | changes).items() if has}
    named = dict(sorted(named.items(), key=lambda each: each[1][0]))
    merged = {name: has[1:] for name, has in named.items() if len(has) > 1}
    return LabelMapping(
        labels={name: has[0] for name, has in named.items()},
        merged=merged | ({BACKGROUND_NAME: background} if background else {}),
    )


def choose_regions(target: Preset, own: Sequence[str], labels: Labels) -> Regions:
    """The regions of a preset, or the user's own, each `NAME=LABEL[,LABEL...]` by label name or value.

    Raises:
        UserError: both, an unknown label (names the nearest), or labels that a preset cannot distinguish.
    """
    if own and target != "labels":
        raise UserError(
            f"--regions {' '.join(own)}",
            expected="no target in addition",
            found=target,
            remedy="leave one out",
        )
    if own:
        return _own_regions(own, labels)
    makers: dict[str, Callable[[Labels], Regions]] = {
        "whole-tumour": lambda labels: {"whole-tumour": tuple(labels)},
        "liver": _liver,
        "liver-and-tumour": _liver_and_tumour,
        "brats-regions": _brats,
    }
    return makers[target](labels) if target in makers else {}


def _own_regions(texts: Sequence[str], labels: Labels) -> Regions:
    regions: Regions = {}
    for text, name, parts in _parse(texts, "regions", "core=1,4"):
        chosen = {_label(part, labels, f"--regions {text}") for part in parts}
        regions[name] = tuple(label for label in labels if label in chosen)
    if len(regions) > MAX_REGIONS:
        raise UserError(
            "--regions",
            expected=f"at most {MAX_REGIONS}",
            found=str(len(regions)),
            remedy="leave some out",
        )
    return regions


def _parse(texts: Sequence[str], option: str, example: str) -> list[tuple[str, str, list[str]]]:
    """Split each text into its name and the parts after the equals sign."""
    parsed, names = [], set[str]()
    for text in texts:
        name, mark, members = text.partition("=")
        name, parts = name.strip(), [part.strip() for part in members.split(",")]
        if not mark or not _NAME.fullmatch(name) or not all(parts):
            raise UserError(
                f"--{option} {text}",
                expected=f"a name, = and what it is made of, as in {example}",
                found=repr(text),
                remedy="correct it",
            )
        if name in names:
            raise UserError(
                f"--{option} {text}", expected="each name once", found=f"{name} twice", remedy="join the two"
            )
        names.add(name)
        parsed.append((text, name, parts))
    return parsed


def _value(part: str, labels: Labels, where: str) -> int:
    return int(part) if re.fullmatch(r"-?\d+", part) else labels[_label(part, labels, where)]


def _label(part: str, labels: Labels, where: str) -> str:
    """A label's name, by its name or its value."""
    by_value = {str(value): name for name, value in labels.items()}
    if part in labels or part in by_value:
        return part if part in labels else by_value[part]
    if re.fullmatch(r"-?\d+", part):
        near = min(labels, key=lambda name: abs(labels[name] - int(part)))
        raise UserError(
            where,
            expected=f"one of the labels {_listed(labels)}",
            found=part,
            remedy=f"did you mean {labels[near]} ({near})?",
        )
    raise unknown_name(where, "label", part, labels)


def _brats(labels: Labels) -> Regions:
    """Whole tumour, tumour core and enhancing tumour, whatever a challenge's year calls and numbers them."""
    roles = {name: _brats_role(name) for name in labels}
    if set(labels.values()) == set(_BRATS_VALUES) and not any(roles.values()):
        roles = {name: _BRATS_VALUES[value] for name, value in labels.items()}
    if set(roles.values()) != {"edema", "core", "enhancing"}:
        raise _wrong_labels(
            "brats-regions", "labels named edema, necrosis or non-enhancing, and enhancing", labels
        )
    return {
        "WT": tuple(labels),
        "TC": tuple(name for name, role in roles.items() if role != "edema"),
        "ET": tuple(name for name, role in roles.items() if role == "enhancing"),
    }


def _brats_role(name: str) -> str | None:
    words = set(re.split(r"[^a-z]+", name.lower()))
    if words & {"non", "net", "netc", "ncr", "nonenhancing"} or any(
        word.startswith("necro") for word in words
    ):
        return "core"
    if words & {"edema", "oedema", "ed", "snfh"}:
        return "edema"
    return "enhancing" if words & {"enhancing", "et"} else None


def _liver(labels: Labels) -> Regions:
    """The paper's task, and of more organs than it knew the liver only."""
    tumours = [name for name in labels if _TUMOUR.fullmatch(name.lower())]
    liver = tuple(name for name in labels if name.lower() == "liver" or name in tumours)
    if len(liver) == len(tumours):
        raise _wrong_labels("liver", "a label named liver", labels)
    return {"liver": liver}


def _liver_and_tumour(labels: Labels) -> Regions:
    tumours = tuple(name for name in labels if _TUMOUR.fullmatch(name.lower()))
    if not tumours:
        raise _wrong_labels("liver-and-tumour", "a label named tumour, cancer or lesion", labels)
    return _liver(labels) | {"tumour": tumours}


def _wrong_labels(target: Preset, expected: str, labels: Labels) -> UserError:
    return UserError(
        f"--target {target}",
        expected=expected,
        found=_listed(labels),
        remedy='name them by --labels, or choose regions yourself, as in --regions "core=1,4" "all=1,2,4"',
    )


def _listed(labels: Labels) -> str:
    return ", ".join(f"{name} ({value})" for name, value in labels.items())
