"""What to learn of a source's labels: its own labels, a preset, or regions and labels that the user names."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ossnet.config_tree import did_you_mean
from ossnet.data.labels.scheme import MAX_REGIONS
from ossnet.data.labels.task import BACKGROUND, BACKGROUND_NAME
from ossnet.errors import UserError

Preset = Literal["labels", "foreground", "whole-tumour", "liver", "brats-regions", "liver-and-tumour"]
Labels = Mapping[str, int]
Regions = dict[str, tuple[str, ...]]

_OWN = 'choose regions yourself, as in --regions "core=1,4" "all=1,2,4"'
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_TUMOUR = re.compile(r"(liver[-_ ]?)?(tumou?r|cancer|lesion)s?")
_BRATS_VALUES = {1: "core", 2: "edema", 4: "enhancing"}
"""What BraTS means by its values up to 2021; 1, 2 and 3 mean one thing in BraTS 2023 and another in MSD."""


@dataclass(frozen=True)
class LabelMapping:
    """Which voxel values of files mean which label."""

    labels: dict[str, int]
    """Name and the value that stands for it, by rising value."""
    merged: dict[str, tuple[int, ...]]
    """Further values by label, or by `background`."""


def label_table(declared: Sequence[str], labels: Labels) -> LabelMapping:
    """A source's labels with the user's changes, each `NAME=VALUE[,VALUE...]`.

    A name takes its values from whatever had them, so that labels can be renamed (`core=1`), merged
    (`tumour=1,2,4`) and odd values be read as what they mean (`background=0,255`, `enhancing=4,3`). The first
    value is the one that predictions are written with. Values may be given by the name that they had.

    Raises:
        UserError: what is no such text, or an unknown name (names the nearest).
    """
    values: dict[str, tuple[int, ...]] = {name: (value,) for name, value in labels.items()}
    changes = {
        name: tuple(_value(part, labels, f"labels {text!r}") for part in parts)
        for text, name, parts in _parse(declared, "labels", "enhancing=4,3")
    }
    taken = {value for members in changes.values() for value in members}
    if sum(map(len, changes.values())) > len(taken):
        msg = (
            f"labels {' '.join(declared)!r}: expected each value once, found one twice; give it to one label"
        )
        raise UserError(msg)
    left = {name: tuple(value for value in has if value not in taken) for name, has in values.items()}
    background = tuple(value for value in changes.pop(BACKGROUND_NAME, ()) if value != BACKGROUND)
    if BACKGROUND in {value for members in changes.values() for value in members}:
        msg = f"labels {' '.join(declared)!r}: expected 0 to stay the background, found it in a label"
        raise UserError(msg)
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
        UserError: both, an unknown label (names the nearest), or labels that a preset cannot tell apart.
    """
    if own and target != "labels":
        msg = f"regions {' '.join(own)!r}: expected no target beside them, found {target}; leave one out"
        raise UserError(msg)
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
        chosen = {_label(part, labels, f"regions {text!r}") for part in parts}
        regions[name] = tuple(label for label in labels if label in chosen)
    if len(regions) > MAX_REGIONS:
        msg = f"regions: expected at most {MAX_REGIONS}, found {len(regions)}; leave some out"
        raise UserError(msg)
    return regions


def _parse(texts: Sequence[str], option: str, example: str) -> list[tuple[str, str, list[str]]]:
    """Each text with its name and the parts after the equals sign."""
    parsed, names = [], set[str]()
    for text in texts:
        name, mark, members = text.partition("=")
        name, parts = name.strip(), [part.strip() for part in members.split(",")]
        if not mark or not _NAME.fullmatch(name) or not all(parts):
            msg = f"{option} {text!r}: expected a name, = and what it is made of, as in {example}"
            raise UserError(msg)
        if name in names:
            msg = f"{option} {text!r}: expected each name once, found {name} twice; join the two"
            raise UserError(msg)
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
        msg = f"{where}: unknown label {part}: did you mean {labels[near]} ({near})?"
        raise UserError(msg)
    msg = f"{where}: {did_you_mean('label', part, labels)}"
    raise UserError(msg)


def _brats(labels: Labels) -> Regions:
    """Whole tumour, tumour core and enhancing tumour, whatever a challenge's year calls and numbers them."""
    roles = {name: _brats_role(name) for name in labels}
    if set(labels.values()) == set(_BRATS_VALUES) and not any(roles.values()):
        roles = {name: _BRATS_VALUES[value] for name, value in labels.items()}
    if set(roles.values()) != {"edema", "core", "enhancing"}:
        msg = (
            "target brats-regions: expected labels named edema, necrosis or non-enhancing, and enhancing, "
            f"found {_told(labels)}; name them by --labels or {_OWN}"
        )
        raise UserError(msg)
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
        msg = (
            f"target liver: expected a label named liver, found {_told(labels)}; "
            f"name it by --labels or {_OWN}"
        )
        raise UserError(msg)
    return {"liver": liver}


def _liver_and_tumour(labels: Labels) -> Regions:
    tumours = tuple(name for name in labels if _TUMOUR.fullmatch(name.lower()))
    if not tumours:
        msg = (
            f"target liver-and-tumour: expected a label named tumour, cancer or lesion, "
            f"found {_told(labels)}; name it by --labels or {_OWN}"
        )
        raise UserError(msg)
    return _liver(labels) | {"tumour": tumours}


def _told(labels: Labels) -> str:
    return ", ".join(f"{name} ({value})" for name, value in labels.items())
