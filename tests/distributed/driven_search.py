"""A search over a width and a share of the points: what a driver gets from it and gives back to it."""

import json
from collections.abc import Callable

from ossnet.distributed.tuning.searcher import StudySearch
from ossnet.distributed.tuning.trial import TrialSpec
from ossnet.metric_names import MEMORY

SPACE = """
def space(trial):
    width = 2 ** trial.suggest_int("log2_width", 2, 6)
    return {"model.decoder_width": width, "sampling.border_fraction": trial.suggest_float("border", 0, 1)}
"""

Opening = Callable[..., StudySearch]


def result(epoch: int, dice: float | None, *, final: float = 0.0) -> dict[str, object]:
    validated = {} if dice is None else {"dice/val": dice}
    return {"epoch": float(epoch), "final": final, MEMORY: 0.5, **validated}


def suggestion(search: StudySearch, name: str) -> TrialSpec:
    found = search.suggest(name)
    assert isinstance(found, dict)
    return TrialSpec.from_dict(json.loads(json.dumps(found)))
