"""Training, validation and test: by group, seeded, exact, and stable when a case comes or goes."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from ossnet.errors import UserError

Split = Literal["training", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


def make_splits(
    groups: Mapping[str, str], *, validation_share: float, test_share: float, seed: int
) -> dict[Split, tuple[str, ...]]:
    """Split cases so that no group is in two splits.

    Groups are taken in an order that depends on the seed and their names only. A split gets
    `round(share * cases)` of the cases, exactly where the groups' sizes allow, and at least one group where
    there is one to spare; training keeps at least one.

    Args:
        groups: the group (patient) of each case.

    Raises:
        UserError: shares that are negative or add to 1 or more.
    """
    if min(validation_share, test_share) < 0 or validation_share + test_share >= 1:
        shares = f"validation share {validation_share} and test share {test_share}"
        msg = f"{shares}: expected shares from 0 that add to less than 1"
        raise UserError(msg)
    members: dict[str, list[str]] = {}
    for case in sorted(groups):
        members.setdefault(groups[case], []).append(case)
    left = sorted(members, key=lambda group: hashlib.sha256(f"{seed}/{group}".encode()).digest())
    test: list[str] = []
    if test_share > 0:
        spare = 1 + (validation_share > 0)
        test = _take(left, members, round(test_share * len(groups)), spare=spare)
        left = [group for group in left if group not in set(test)]
    validation: list[str] = []
    if validation_share > 0:
        validation = _take(left, members, round(validation_share * len(groups)), spare=1)
        left = [group for group in left if group not in set(validation)]
    return {
        "training": _cases(left, members),
        "validation": _cases(validation, members),
        "test": _cases(test, members),
    }


def check_splits(splits: Mapping[str, Sequence[str]], groups: Mapping[str, str]) -> None:
    """Refuse splits that share a group.

    Raises:
        UserError: names the group and both splits.
    """
    homes: dict[str, str] = {}
    for split, cases in splits.items():
        for case in cases:
            home = homes.setdefault(groups[case], split)
            if home != split:
                msg = f"group {groups[case]!r} is in the {home} and in the {split} split; keep it in one"
                raise UserError(msg)


def _take(order: Sequence[str], members: Mapping[str, Sequence[str]], count: int, *, spare: int) -> list[str]:
    """Groups in order as long as they fit into `count` cases, else the smallest one; `spare` groups stay."""
    if len(order) <= spare:
        return []
    taken: list[str] = []
    room = count
    for group in order:
        if len(members[group]) <= room and len(taken) < len(order) - spare:
            taken.append(group)
            room -= len(members[group])
    return taken or [min(order, key=lambda group: len(members[group]))]


def _cases(groups: Sequence[str], members: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    return tuple(sorted(case for group in groups for case in members[group]))
