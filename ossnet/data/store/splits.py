"""Training, validation and test: by group, stratified, seeded, exact, and stable when a case comes or goes.

A stratum is the set of classes that a group's labels hold and the power of ten of their volume, so that rare
classes and small lesions come into every split in proportion. It depends on the group alone, not on the
others, and within a stratum groups come in the order of a hash of the seed and their names; so a case more or
less moves few others. A stratum's part is rounded to whole cases by largest remainders.
"""

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from math import floor, log10
from pathlib import Path
from typing import Any, Literal, get_args

from ossnet.config_tree import unknown_name
from ossnet.errors import UserError

Split = Literal["training", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


def make_splits(
    groups: Mapping[str, str],
    *,
    validation_fraction: float,
    test_fraction: float,
    seed: int,
    strata: Mapping[str, str] | None = None,
) -> dict[str, tuple[str, ...]]:
    """Split cases so that no group is in two splits.

    A split gets `round(fraction * cases)` of the cases, exactly where the groups' sizes allow, and at
    least one group where there is one to spare; training keeps at least one.

    Args:
        groups: the group (patient) of each case.
        strata: the stratum of each group; without them all are of one stratum.

    Raises:
        UserError: fractions that are negative or add to 1 or more.
    """
    if min(validation_fraction, test_fraction) < 0 or validation_fraction + test_fraction >= 1:
        raise UserError(
            "--validation-fraction and --test-fraction",
            expected="fractions from 0 that add to less than 1",
            found=f"{validation_fraction:g} and {test_fraction:g}",
            remedy="lower them",
        )
    members, left = _in_order(groups, seed)
    kinds = strata or dict.fromkeys(members, "")
    test: list[str] = []
    if test_fraction > 0:
        spare = 1 + (validation_fraction > 0)
        test = _take(left, members, kinds, round(test_fraction * len(groups)), spare=spare)
        left = [group for group in left if group not in set(test)]
    validation: list[str] = []
    if validation_fraction > 0:
        validation = _take(left, members, kinds, round(validation_fraction * len(groups)), spare=1)
        left = [group for group in left if group not in set(validation)]
    return {
        "training": _cases(left, members),
        "validation": _cases(validation, members),
        "test": _cases(test, members),
    }


def make_folds(
    groups: Mapping[str, str], *, folds: int, seed: int, strata: Mapping[str, str] | None = None
) -> tuple[tuple[str, ...], ...]:
    """Cases in folds of about the same size, no group in two of them.

    Raises:
        UserError: fewer groups than folds.
    """
    members, left = _in_order(groups, seed)
    if folds > len(left):
        raise UserError(
            "--folds",
            expected=f"at most {len(left)}, one a group (patient) outside the test split",
            found=str(folds),
            remedy="give fewer",
        )
    kinds, cases = strata or dict.fromkeys(members, ""), []
    for more in range(folds - 1, 0, -1):
        room = round(sum(len(members[group]) for group in left) / (more + 1))
        fold = _take(left, members, kinds, room, spare=more)
        left = [group for group in left if group not in set(fold)]
        cases.append(_cases(fold, members))
    return (*cases, _cases(left, members))


def find_strata(groups: Mapping[str, str], volumes: Mapping[str, Sequence[float]]) -> dict[str, str]:
    """The stratum of each group: the classes that its labels hold, and the power of ten of their volume.

    Args:
        volumes: mm3 of each foreground class in each case.
    """
    members, _ = _in_order(groups, seed=0)
    return {group: _stratum([volumes[case] for case in cases]) for group, cases in members.items()}


def read_splits(path: Path, groups: Mapping[str, str]) -> dict[str, Split]:
    """The split of each case, from a JSON object or a CSV table with the columns `case` and `split`.

    Raises:
        UserError: no such file, no split or an unknown one for a case, an unknown case, or a group in two.
    """
    try:
        pairs = _pairs(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            path,
            expected='{"case": "training", ...} or a CSV table with the columns case and split',
            found=f"something else ({error})",
            remedy="correct the file",
        ) from error
    splits: dict[str, Split] = {}
    for case, split in pairs:
        for what, name, known in (("case", case, groups), ("split", split, SPLITS)):
            if name not in known:
                raise unknown_name(path, what, str(name), known)
        if splits.setdefault(case, split) != split:
            raise _two_splits(path, f"case {case!r}", splits[case], split)
    missing = min(groups.keys() - splits.keys(), default=None)
    if missing is not None:
        raise UserError(path, expected="a split for every case", found=f"none for {missing}", remedy="add it")
    check_splits(by_split(splits), groups, where=path)
    return splits


def by_split(splits: Mapping[str, Split]) -> dict[str, tuple[str, ...]]:
    """The cases of each split, from the split of each case."""
    return {name: tuple(sorted(case for case, split in splits.items() if split == name)) for name in SPLITS}


def check_splits(
    splits: Mapping[str, Sequence[str]], groups: Mapping[str, str], *, where: Path | str
) -> None:
    """Reject splits that share a group.

    Args:
        where: the file that holds the splits.

    Raises:
        UserError: names the group and both splits.
    """
    homes: dict[str, str] = {}
    for split, cases in splits.items():
        for case in cases:
            home = homes.setdefault(groups[case], split)
            if home != split:
                raise _two_splits(where, f"group {groups[case]!r}", home, split)


def _two_splits(where: Path | str, what: str, first: str, second: str) -> UserError:
    return UserError(
        where,
        expected=f"{what} in one split",
        found=f"it in the {first} and in the {second} split",
        remedy="keep it in one",
    )


def _pairs(path: Path) -> list[tuple[str, Any]]:
    if path.suffix == ".csv":
        with path.open(newline="") as stream:
            return [(row["case"], row["split"]) for row in csv.DictReader(stream)]
    pairs = json.loads(path.read_text(), object_pairs_hook=tuple)  # a case named twice is an error
    return [(str(case), split) for case, split in pairs]


def _in_order(groups: Mapping[str, str], seed: int) -> tuple[dict[str, list[str]], list[str]]:
    """The cases of each group, and the groups in an order that depends on the seed and their names only."""
    members: dict[str, list[str]] = {}
    for case in sorted(groups):
        members.setdefault(groups[case], []).append(case)
    return members, sorted(members, key=lambda group: hashlib.sha256(f"{seed}/{group}".encode()).digest())


def _take(
    order: Sequence[str],
    members: Mapping[str, Sequence[str]],
    strata: Mapping[str, str],
    count: int,
    *,
    spare: int,
) -> list[str]:
    """Groups in order as long as they fit into their stratum's part of `count` cases, then into what is left
    of it; if none does, the smallest one. `spare` groups are not taken."""
    if len(order) <= spare:
        return []
    taken: dict[str, None] = {}
    room, quotas = count, _quotas(order, members, strata, count)
    for by_stratum in (True, False):
        for group in order:
            size, kind = len(members[group]), strata[group]
            fits = size <= (min(quotas[kind], room) if by_stratum else room)
            if group not in taken and fits and len(taken) < len(order) - spare:
                taken[group] = None
                room -= size
                quotas[kind] -= size
    return list(taken) or [min(order, key=lambda group: len(members[group]))]


def _quotas(
    order: Sequence[str], members: Mapping[str, Sequence[str]], strata: Mapping[str, str], count: int
) -> dict[str, int]:
    """`count` divided among the strata by their numbers of cases; equal remainders by the groups' order."""
    sizes: dict[str, int] = {}
    for group in order:
        sizes[strata[group]] = sizes.get(strata[group], 0) + len(members[group])
    exact = {kind: count * size / sum(sizes.values()) for kind, size in sizes.items()}
    quotas = {kind: floor(part) for kind, part in exact.items()}
    nearest = sorted(exact, key=lambda kind: quotas[kind] - exact[kind])
    for kind in nearest[: count - sum(quotas.values())]:
        quotas[kind] += 1
    return quotas


def _stratum(volumes: Sequence[Sequence[float]]) -> str:
    means = [sum(column) / len(volumes) for column in zip(*volumes, strict=True)]
    present = "".join("01"[mean > 0] for mean in means)
    return f"{present}/{floor(log10(sum(means)))}" if sum(means) > 0 else present


def _cases(groups: Sequence[str], members: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    return tuple(sorted(case for group in groups for case in members[group]))
