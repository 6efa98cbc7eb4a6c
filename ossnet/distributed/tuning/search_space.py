"""Search spaces: a Python file with `def space(trial)` that returns dotted configuration paths."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ossnet.config import Config
from ossnet.data import Store
from ossnet.data.store.dataset_info import DatasetSpec
from ossnet.errors import UserError
from ossnet.sampling.sampler import check_batch

if TYPE_CHECKING:
    from optuna import Trial

NETWORK = "model"  # the one path that is not a value: it names the network
_DRAWS = 64  # of the dry run: enough to see every branch of a space


class Space:
    """A space file. Pickled as its path, as Ray Tune saves the searcher with plain pickle."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        module = _load(self.path)
        function = getattr(module, "space", None)
        if not callable(function):
            msg = f"{path}: expected a function space(trial), found none"
            raise UserError(msg)
        self._function = function
        self.first: list[dict[str, Any]] = list(getattr(module, "POINTS_TO_EVALUATE", []))
        """Points to try before the sampler chooses: values by their names in the space."""

    def __call__(self, trial: "Trial") -> dict[str, Any]:
        """Configuration paths and their values, as the file's function returns them.

        Raises:
            UserError: the function fails, or returns something else.
        """
        try:
            changes = self._function(trial)
        except Exception as error:
            msg = f"{self.path}: space(trial) fails: {type(error).__name__}: {error}"
            raise UserError(msg) from error
        if not isinstance(changes, dict) or not all(isinstance(path, str) for path in changes):
            msg = f"{self.path}: space(trial) returns {changes!r}: expected a dictionary of dotted paths"
            raise UserError(msg)
        return changes

    def __reduce__(self) -> tuple[type["Space"], tuple[Path]]:
        return Space, (self.path,)


def configure(base: Config, changes: Mapping[str, Any], store: DatasetSpec) -> Config:
    """A trial's configuration: the network it names, else `base`'s; the rest of `base`; the changes.

    Raises:
        UserError: an unknown network or path (names the nearest), or a value that does not fit.
    """
    values = dict(changes)
    network = values.pop(NETWORK, None)
    if network is not None:
        base = replace(base, model=Config.preset(network, store).model)
    return base.replace(values).resolve_for(store)


def check_space(space: Space, base: Config, store: Store, *, workers: int) -> None:
    """Draw from a space at random and build every configuration, before any trial starts.

    Raises:
        UserError: as for `configure`, naming the space file; or a store with nothing to judge trials by.
    """
    if not store.split("validation", fold=base.training.fold):
        msg = f"{store.root}: no validation cases, by which trials are judged: prepare with a larger share"
        raise UserError(msg)
    for _, changes in draws(space, first=True):
        try:
            config = configure(base, changes, store)
            cases = store.split("training", fold=config.training.fold)
            check_batch(len(cases), config.training.batch_size, workers)
        except UserError as error:
            msg = f"{space.path.name}: {error}"
            raise UserError(msg) from error


def draws(
    space: Space, *, count: int = _DRAWS, first: bool = False
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """What a space decides and returns, for random points that are always the same.

    Args:
        first: begin with the space's `POINTS_TO_EVALUATE`.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for point in space.first if first else []:
        study.enqueue_trial(point)
    for _ in range(count + len(space.first) * first):
        trial = study.ask()
        changes = space(trial)
        yield trial.params, changes


def draw(path: Path, base: Config, study: DatasetSpec, *, count: int) -> list[tuple[str, Config]]:
    """Configurations drawn from a space file at random, each with what it decided in a line.

    Raises:
        UserError: as for `configure`, naming the space file; or a count below 1.
    """
    if count < 1:
        msg = f"draws: expected at least 1, found {count}"
        raise UserError(msg)
    drawn = []
    for decided, changes in draws(Space(path), count=count):
        try:
            config = configure(base, changes, study)
        except UserError as error:
            msg = f"{path.name}: {error}"
            raise UserError(msg) from error
        choices = (f"{name}={short(value)}" for name, value in decided.items() if name != "network")
        drawn.append((" ".join([config.model.name, *choices]), config))
    return drawn


def short(value: object) -> str:
    """A value for people."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _load(path: Path) -> Any:
    if not path.is_file():
        msg = f"{path}: search space not found: give a Python file with a function space(trial)"
        raise UserError(msg)
    spec = spec_from_file_location(f"search_space_{path.stem}", path)
    if spec is None or spec.loader is None:
        msg = f"{path}: expected a Python file (.py)"
        raise UserError(msg)
    module = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        msg = f"{path}: cannot be loaded: {type(error).__name__}: {error}"
        raise UserError(msg) from error
    return module
