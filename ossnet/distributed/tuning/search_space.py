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
_SAMPLES = 64  # of the dry run: enough to see every branch of a space


class Space:
    """A space file. Pickled as its path, as Ray Tune saves the searcher with plain pickle.

    Raises:
        UserError: the file is missing, cannot be loaded, or has no function `space`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        module = _load(self.path)
        function = getattr(module, "space", None)
        if not callable(function):
            raise UserError(path, expected="a function space(trial)", found="none")
        self._function = function
        self.points_to_evaluate: list[dict[str, Any]] = list(getattr(module, "POINTS_TO_EVALUATE", []))
        """Points to try before the sampler chooses: values by their names in the space."""

    def __call__(self, trial: "Trial") -> dict[str, Any]:
        """Configuration paths and their values, as the file's function returns them.

        Raises:
            UserError: the function fails, or returns something else.
        """
        try:
            changes = self._function(trial)
        except Exception as error:
            raise UserError(
                self.path,
                expected="space(trial) to return",
                found=f"{type(error).__name__}: {error}",
            ) from error
        if not isinstance(changes, dict) or not all(isinstance(path, str) for path in changes):
            raise UserError(
                self.path,
                expected="space(trial) to return a dictionary of dotted paths",
                found=repr(changes),
            )
        return changes

    def __reduce__(self) -> tuple[type["Space"], tuple[Path]]:
        return Space, (self.path,)


def apply_overrides(base: Config, changes: Mapping[str, Any], store: DatasetSpec) -> Config:
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
        UserError: as for `apply_overrides`, naming the space file; or a store without validation cases.
    """
    if not store.split("validation", fold=base.training.fold):
        raise UserError(
            store.root,
            expected="validation cases to compare trials by",
            found="none",
            remedy="prepare with a larger --validation-fraction",
        )
    for _, changes in sample_points(space, with_first=True):
        try:
            config = apply_overrides(base, changes, store)
            cases = store.split("training", fold=config.training.fold)
            check_batch(len(cases), config.training.batch_size, workers)
        except UserError as error:
            raise _in_file(space.path, error) from error


def sample_points(
    space: Space, *, count: int = _SAMPLES, with_first: bool = False
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The parameters that a space decides and what it returns, for random points that are always the same.

    Args:
        with_first: begin with the space's `POINTS_TO_EVALUATE`.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    first = space.points_to_evaluate if with_first else []
    for point in first:
        study.enqueue_trial(point)
    for _ in range(count + len(first)):
        trial = study.ask()
        changes = space(trial)
        yield trial.params, changes


def sample_configs(path: Path, base: Config, dataset: DatasetSpec, *, count: int) -> list[tuple[str, Config]]:
    """Configurations drawn from a space file at random, each with what the space decided in a line.

    Raises:
        UserError: as for `apply_overrides`, naming the space file; or a count below 1.
    """
    if count < 1:
        raise UserError("samples", expected="at least 1", found=str(count))
    sampled = []
    for decided, changes in sample_points(Space(path), count=count):
        try:
            config = apply_overrides(base, changes, dataset)
        except UserError as error:
            raise _in_file(path, error) from error
        choices = (f"{name}={short(value)}" for name, value in decided.items() if name != "network")
        sampled.append((" ".join([config.model.name, *choices]), config))
    return sampled


def short(value: object) -> str:
    """A value with three digits at most."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _in_file(path: Path, error: UserError) -> UserError:
    """Add the name of the space file to an error."""
    where = f"{path.name}: {error.where}"
    return UserError(where, expected=error.expected, found=error.found, remedy=error.remedy)


def _load(path: Path) -> Any:
    what = "a Python file with a function space(trial)"
    if not path.is_file():
        raise UserError(path, expected=what, found="no file")
    spec = spec_from_file_location(f"search_space_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(path, expected=what, found=f"a file that ends in {path.suffix!r}")
    module = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(path, expected=what, found=f"{type(error).__name__}: {error}") from error
    return module
