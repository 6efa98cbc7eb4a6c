"""Search spaces: a Python file with `def space(trial)` that returns dotted configuration paths."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ossnet.config_tree import unknown_name
from ossnet.data import Store
from ossnet.distributed._optuna import reopen_trial
from ossnet.distributed.tuning.choices import (
    SpaceTrial,
    in_range,
    near_prior_sampler,
    range_text,
    stored_point,
)
from ossnet.distributed.tuning.space_file import SpaceModule, reason
from ossnet.errors import UserError
from ossnet.planning.configure.planner import Planner, Resolved
from ossnet.sampling.sampler import check_batch

if TYPE_CHECKING:
    from optuna import Study, Trial

Sample = tuple[dict[str, Any], dict[str, Any]]
"""What a space decided, by the names of its parameters as they are stored, and what it returned."""
MOST_REDRAWS = 500
"""Suggestions in a row that a space may forbid."""
_SAMPLES = 64  # of the dry run: enough to see every branch of a space
_NEAR_PRIOR = 2  # points near a prior that a study begins with
_DRAWS_A_POINT = 2
_STORED_SAMPLES = 3  # random ones of the dry run that go through a database, which takes its time


class Space:
    """A space file. Pickled as its path, as Ray Tune saves the searcher with plain pickle.

    Raises:
        UserError: the file is missing, cannot be loaded, has no function `space`, or its
            `POINTS_TO_EVALUATE` are no points, or its `PRIOR` is none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._file = _load(self.path)
        function = getattr(self._file.module, "space", None)
        if not callable(function):
            raise UserError(path, expected="a function space(trial)", found="none")
        self._function = function
        self.source = self._file.texts[self.path]
        """The file's text as it was loaded."""
        self.points_to_evaluate = _points(self.path, getattr(self._file.module, "POINTS_TO_EVALUATE", []))
        """Points to try before the sampler chooses: values, as they are stored, by their names."""
        self.prior = _prior(self.path, getattr(self._file.module, "PRIOR", {}))
        """Good values by their names, as they are stored; points near them are tried before others."""

    def __call__(self, trial: "Trial") -> dict[str, Any]:
        """Configuration paths and their values, as the file's function returns them.

        Raises:
            TrialPruned: the space does not allow what the trial suggests.
            UserError: the function fails, or returns something else.
        """
        from optuna import TrialPruned

        try:
            changes = self._function(SpaceTrial(trial))
        except TrialPruned:
            raise
        except (Exception, SystemExit) as error:
            raise UserError(self.path, expected="space(trial) to return", found=reason(error)) from error
        if not isinstance(changes, dict) or not all(isinstance(path, str) for path in changes):
            raise UserError(
                self.path,
                expected="space(trial) to return a dictionary of dotted paths",
                found=repr(changes),
            )
        return {path: _plain(value) for path, value in changes.items()}

    @property
    def helpers(self) -> dict[str, str]:
        """The texts of the files beside the space that it has imported so far, by their names."""
        return self._file.helpers()

    def __reduce__(self) -> tuple[type["Space"], tuple[Path]]:
        return Space, (self.path,)


def check_space(space: Space, planner: Planner, store: Store, *, fold: int | None = None) -> None:
    """Draw from a space at random and resolve every configuration, before any trial starts.

    Args:
        planner: resolves configurations; its memory budget is left out.
        fold: the fold of the store that validates.

    Raises:
        UserError: as for `Planner.resolve`, naming the space file; or a store without validation cases.
    """
    if not store.split("validation", fold=fold):
        raise UserError(
            store.root,
            expected="validation cases to compare trials by",
            found="none",
            remedy="prepare with a larger --validation-fraction",
        )
    samples = list(sample_points(space, with_first=True))
    unlimited = replace(planner, budget_gib=None)
    for _, changes in samples:
        _check_sample(space, changes, unlimited, store)
    _check_names(space, samples)
    _check_prior(space, samples)
    _check_stored(space, samples[: len(space.points_to_evaluate) + _STORED_SAMPLES])


def sample_points(
    space: Space, *, count: int = _SAMPLES, with_first: bool = False, seed: int = 0
) -> Iterator[Sample]:
    """The parameters that a space decides and what it returns, for random points: the same ones for a seed.

    Points that the space does not allow are drawn again. Where no random one is allowed, the space's
    `POINTS_TO_EVALUATE` are all there is.

    Args:
        with_first: begin with the space's `POINTS_TO_EVALUATE`.

    Raises:
        UserError: the space allows none of many random points, nor any of its `POINTS_TO_EVALUATE`.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    given = (_sample(space, study, point) for point in space.points_to_evaluate)
    first, drawn = filter(None, given), _random_points(space, study, count)
    found = 0
    for sample in chain(first, drawn) if with_first else drawn:
        found += 1
        yield sample
    for sample in () if found else first:
        found += 1
        yield sample
    if not found:
        raise UserError(
            space.path,
            expected="suggestions that space(trial) allows",
            found=f"TrialPruned for each of {MOST_REDRAWS} random ones",
            remedy="forbid less, or widen the space",
        )


def _random_points(space: Space, study: "Study", count: int) -> Iterator[Sample]:
    """So many points that the space allows; fewer where it forbids too many, in a row or in all."""
    forbidden, left = 0, MOST_REDRAWS + _DRAWS_A_POINT * count
    while count and left and forbidden < MOST_REDRAWS:
        left -= 1
        sample = _sample(space, study)
        forbidden = forbidden + 1 if sample is None else 0
        if sample is not None:
            count -= 1
            yield sample


def _sample(space: Space, study: "Study", point: dict[str, Any] | None = None) -> Sample | None:
    """A point of a study, the given one or the sampler's; None for one that the space does not allow."""
    from optuna import TrialPruned

    if point is not None:
        study.enqueue_trial(point)
    trial = study.ask()
    try:
        changes = space(trial)
    except TrialPruned:
        return None
    return trial.params, changes


def _check_sample(space: Space, changes: Mapping[str, Any], planner: Planner, store: Store) -> None:
    try:
        config = planner.resolve(changes=changes).config
        cases = store.split("training", fold=config.training.fold)
        check_batch(len(cases), config.training.batch_size, planner.workers)
    except UserError as error:
        raise _in_file(space.path, error) from error


def _check_names(space: Space, samples: list[Sample]) -> None:
    """Reject names in `POINTS_TO_EVALUATE` that the space never asks for: Optuna would ignore them."""
    known = {name for params, _ in samples for name in params}
    unknown = [name for point in space.points_to_evaluate for name in point if name not in known]
    if unknown:
        raise UserError(
            f"{space.path.name}: POINTS_TO_EVALUATE",
            expected=f"names out of {', '.join(sorted(known))}",
            found=f"{unknown[0]!r}",
        )


def first_points(space: Space, *, seed: int) -> list[dict[str, Any]]:
    """The points that a study begins with: the space's own, and some near its prior.

    Args:
        seed: decides which ones near the prior.
    """
    points = list(space.points_to_evaluate)
    if not space.prior:
        return points
    near = points_near(space, space.prior, count=_NEAR_PRIOR, seed=seed)
    return [*(points or [space.prior]), *(params for params, _ in near)]


def points_near(space: Space, center: Mapping[str, Any], *, count: int, seed: int) -> list[Sample]:
    """Random points that the space allows, near one whose values are given as they are stored."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=near_prior_sampler(center, seed=seed))
    return list(_random_points(space, study, count))


def _check_prior(space: Space, samples: list[Sample]) -> None:
    """Reject a prior of names that the space never asks for, or of values outside their ranges.

    Raises:
        UserError: names the parameter, its range and the value.
    """
    import optuna

    if not space.prior:
        return
    study, ranges = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)), dict[str, list[Any]]()
    for params, _ in samples:
        study.enqueue_trial(params)
        trial = study.ask()
        space(trial)
        for name, distribution in trial.distributions.items():
            if distribution not in ranges.setdefault(name, []):
                ranges[name].append(distribution)
    for name, value in space.prior.items():
        where = f"{space.path.name}: PRIOR"
        if name not in ranges:
            raise unknown_name(where, "parameter", name, ranges)
        if not any(in_range(value, each) for each in ranges[name]):
            expected = f"{name} {' or '.join(map(range_text, ranges[name]))}"
            raise UserError(where, expected=expected, found=repr(value))


def _check_stored(space: Space, samples: list[Sample]) -> None:
    """Store points as a study does, and have the space decide by what the storage gives back."""
    import optuna

    database = optuna.storages.RDBStorage("sqlite:///:memory:")
    study = optuna.create_study(storage=database, sampler=optuna.samplers.RandomSampler(seed=0))
    for params, changes in samples:
        study.enqueue_trial(params)
        trial = study.ask()
        space(trial)
        again = space(reopen_trial(study, study.get_trials(deepcopy=False)[-1]))
        if repr(again) != repr(changes):
            raise UserError(
                space.path,
                expected="space(trial) to return the same for the same suggestions",
                found=f"{changes} and {again}",
            )


def sample_configs(path: Path, planner: Planner, *, count: int) -> list[tuple[str, Resolved]]:
    """Configurations drawn from a space file at random, each with what the space decided in a line.

    Raises:
        UserError: as for `Planner.resolve`, naming the space file; or a count below 1.
    """
    if count < 1:
        raise UserError("samples", expected="at least 1", found=str(count))
    sampled = []
    for decided, changes in sample_points(Space(path), count=count):
        try:
            resolved = planner.resolve(changes=changes)
        except UserError as error:
            raise _in_file(path, error) from error
        choices = (f"{name}={short(value)}" for name, value in decided.items() if name != "network")
        sampled.append((" ".join([resolved.config.model.name, *choices]), resolved))
    return sampled


def short(value: object) -> str:
    """A value with three digits at most."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _in_file(path: Path, error: UserError) -> UserError:
    """Add the name of the space file to an error."""
    where = f"{path.name}: {error.where}"
    return UserError(where, expected=error.expected, found=error.found, remedy=error.remedy)


def _load(path: Path) -> SpaceModule:
    what = "a Python file with a function space(trial)"
    if not path.is_file():
        raise UserError(path, expected=what, found="no file")
    if path.suffix != ".py":
        raise UserError(path, expected=what, found=f"a file that ends in {path.suffix!r}")
    try:
        return SpaceModule(path)
    except (Exception, SystemExit) as error:
        raise UserError(path, expected=what, found=reason(error)) from error


def _points(path: Path, points: Any) -> list[dict[str, Any]]:
    if not isinstance(points, list | tuple) or not all(isinstance(point, Mapping) for point in points):
        raise UserError(
            path,
            expected="POINTS_TO_EVALUATE to be a list of dictionaries of values by their names in the space",
            found=repr(points),
        )
    return [stored_point(point) for point in points]


def _prior(path: Path, prior: Any) -> dict[str, Any]:
    if not isinstance(prior, Mapping) or not all(isinstance(name, str) for name in prior):
        raise UserError(
            path,
            expected="PRIOR to be a dictionary of good values by their names in the space",
            found=repr(prior),
        )
    return stored_point(prior)


def _plain(value: Any) -> Any:
    """A number or an array of numpy as one of Python: configurations know no others."""
    return value.tolist() if hasattr(value, "tolist") else value
