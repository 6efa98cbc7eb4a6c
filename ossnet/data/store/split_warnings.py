"""What of a store's splits makes a training say little, before it begins."""

from ossnet.data.store.store import Store
from ossnet.errors import UserError


def split_warnings(store: Store, *, fold: int | None = None) -> list[UserError]:
    """Warnings about few training cases and few or no validation cases, each with what to do."""
    training, validation = (len(store.split(name, fold=fold)) for name in ("training", "validation"))
    found = list[UserError]()
    if training == 1:
        remedy = "prepare more cases: of one it learns that patient only"
        found.append(UserError(store.root, expected="several training cases", found="1", remedy=remedy))
    if validation == 0:
        remedy = "prepare with --validation-fraction: without a Dice nothing says which checkpoint is best"
        found.append(UserError(store.root, expected="validation cases", found="none", remedy=remedy))
    elif validation == 1:
        remedy = "prepare more cases: the Dice of one is mostly chance"
        found.append(UserError(store.root, expected="several validation cases", found="1", remedy=remedy))
    return found
