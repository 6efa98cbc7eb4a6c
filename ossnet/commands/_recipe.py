"""The options of jobs that resolve a configuration."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ossnet.commands._parse import Dotted

Recipe = Literal["auto", "paper"]  # as planning's own, whose import would load torch

if TYPE_CHECKING:
    from ossnet.config import Config
    from ossnet.data import Store
    from ossnet.planning.configure.planner import Planner


def make_planner(
    store: "Store",
    data: Path | None,
    *,
    model: str,
    recipe: Recipe,
    dotted: Dotted,
    more: Mapping[str, Any] | None = None,
    **changes: Any,
) -> "Planner":
    """The planner of a job's options.

    Args:
        data: `--data`; without it the store is a phantom's.
        more: what other options than dotted ones give, by path; None for what they do not.
        changes: other fields of the planner.

    Raises:
        UserError: an option is `auto` beside one that says otherwise.
    """
    from dataclasses import replace

    from ossnet.distributed.demo import make_planner as planner_of
    from ossnet.planning.configure.planner import check_auto

    check_auto(dotted.auto, dotted.given, recipe)
    given = {path: value for path, value in (more or {}).items() if value is not None}
    planner = planner_of(store, data, model, {**dotted.given, **given}, recipe)
    return replace(planner, **changes)


def budget_gib(memory: str | None) -> float | None:
    """`--memory-budget` in GiB.

    Raises:
        UserError: it is no size.
    """
    from ossnet.memory.parse import parse_memory
    from ossnet.memory.peak import GIB

    return None if memory is None else parse_memory(memory) / GIB


def preset_config(model: str, data: Path | None) -> "Config":
    """A network's configuration for the store of `--data`, or for the phantom, which is made for it."""
    from ossnet.config import Config
    from ossnet.distributed.demo import open_store

    return Config.preset(model, open_store(data))
