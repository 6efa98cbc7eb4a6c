"""A cheap model of predicted peaks of memory: it screens thousands of candidates in a second.

Letters: M candidates, N exact predictions, F features.
"""

from collections.abc import Mapping, Sequence
from math import log
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

_TAKE_MEMORY = (
    "model",
    "loss",
    "optimizer.name",
    "sampling.points",
    "sampling.uncertain",
    "sampling.crop_shape",
    "sampling.slices",
    "sampling.working_shape",
    "sampling.image_dtype",
    "training.batch_size",
    "training.accumulation_steps",
    "training.precision",
    "training.device_cache_gib",
)  # how the paths of fields begin that make a step's peak
_LENGTHS = (0.5, 1.0, 2.0, 4.0)  # of a Gaussian kernel, in deviations of a feature
_SLOPES = (0.1, 1.0, 10.0)  # variances of the linear part
_NOISE = 1e-4  # variance of the logarithm: features that take no memory, and rounding to blocks
_LEAST_SPREAD = 0.05  # of the logarithm: no estimate is surer than 5 %
_MOST = 200  # exact predictions that it is fitted to, the last ones: its time grows with their cube

Matrix = Float[np.ndarray, "M F"]


class Estimates(NamedTuple):
    """Estimated peaks of candidates, as logarithms of GiB."""

    center: Float[np.ndarray, "M"]
    spread: Float[np.ndarray, "M"]
    """One standard deviation."""

    def margin(self, limit_gib: float) -> Float[np.ndarray, "M"]:
        """By how many standard deviations each is expected to stay below a limit."""
        return (log(limit_gib) - self.center) / self.spread


class PeakSurrogate:
    """A Gaussian process over what a search space decides, on logarithms of sizes and of peaks.

    A peak is nearly a sum of products of sizes, so its logarithm is nearly linear in theirs; the process
    models the rest. Its kernel is the one of a few that predicts each exact value best from the others.
    """

    def __init__(self) -> None:
        self._rows: list[dict[str, float]] = []
        self._logs: list[float] = []
        self._fitted: _Fit | None = None

    def add(self, changes: Mapping[str, Any], gib: float) -> None:
        """Learn an exact prediction of what a space returned, unless what takes memory is known."""
        row = _memory_features(changes)
        if row not in self._rows:
            self._rows.append(row)
            self._logs.append(log(gib))
            self._fitted = None

    def estimate(self, candidates: Sequence[Mapping[str, Any]]) -> Estimates:
        """Estimate the peaks of what a space returned; at least one exact prediction must be known."""
        if self._fitted is None:
            self._fitted = _Fit.of(self._rows[-_MOST:], np.array(self._logs[-_MOST:]))
        return self._fitted.estimate([_memory_features(each) for each in candidates])


def features(values: Mapping[str, Any]) -> dict[str, float]:
    """Values as numbers by name: logarithms of sizes, and 1 for each choice that was made."""
    found: dict[str, float] = {}
    for path, value in values.items():
        _add(found, path, value)
    return found


def _memory_features(changes: Mapping[str, Any]) -> dict[str, float]:
    return features({path: value for path, value in changes.items() if path.startswith(_TAKE_MEMORY)})


def _add(found: dict[str, float], name: str, value: Any) -> None:
    if isinstance(value, bool | str) or value is None:
        found[f"{name}={value}"] = 1.0
    elif isinstance(value, int | float):
        found[name] = log(1 + abs(value))
    elif isinstance(value, list | tuple) and value and all(isinstance(each, int | float) for each in value):
        found[f"{name} length"] = log(len(value))
        found[f"{name} first"] = log(1 + abs(value[0]))
        found[f"{name} sum"] = log(1 + sum(map(abs, value)))
    else:
        found[f"{name}={value!r}"] = 1.0


class _Fit(NamedTuple):
    """A process fitted to exact predictions."""

    names: list[str]
    rows: Matrix
    shift: Float[np.ndarray, "F"]
    scale: Float[np.ndarray, "F"]
    mean: float
    slope: float
    length: float
    inverse: Float[np.ndarray, "N N"]
    weights: Float[np.ndarray, "N"]
    variance: float
    """Factor of the kernel with which the exact values are as far off as expected when each is left out."""

    @classmethod
    def of(cls, given: Sequence[Mapping[str, float]], logs: Float[np.ndarray, "N"]) -> "_Fit":
        names = sorted({name for row in given for name in row})
        raw = matrix(given, names)
        shift, scale = raw.mean(0), raw.std(0)
        scale[scale == 0] = 1
        rows, mean = (raw - shift) / scale, float(logs.mean())
        best: tuple[float, _Fit] | None = None
        for slope in _SLOPES:
            for length in _LENGTHS:
                kernel = _kernel(rows, rows, slope, length) + _NOISE * np.eye(len(rows))
                inverse = np.linalg.inv(kernel)
                weights = inverse @ (logs - mean)
                # what each exact value is off by when it is predicted from the others, in closed form
                variance = max(float(np.mean(weights**2 / np.diag(inverse))), _NOISE**2)  # equal peaks: none
                loss = float(np.mean(np.log(variance / np.diag(inverse))))
                if best is None or loss < best[0]:
                    best = (
                        loss,
                        cls(names, rows, shift, scale, mean, slope, length, inverse, weights, variance),
                    )
        assert best is not None
        return best[1]

    def estimate(self, given: Sequence[Mapping[str, float]]) -> Estimates:
        rows = (matrix(given, self.names) - self.shift) / self.scale
        kernel = _kernel(rows, self.rows, self.slope, self.length)
        own = 1 + _NOISE + (self.slope * (rows**2).mean(1) if len(self.names) else 0)
        left = np.maximum(own - np.einsum("mn,nk,mk->m", kernel, self.inverse, kernel), _NOISE)
        unknown = [any(name not in self.names for name in row) for row in given]
        spread = np.maximum(np.sqrt(self.variance * left), _LEAST_SPREAD)
        return Estimates(self.mean + kernel @ self.weights, np.where(unknown, spread + 1.0, spread))


def matrix(given: Sequence[Mapping[str, float]], names: Sequence[str]) -> Matrix:
    """A row for each of some features; what one has not is 0."""
    return np.array([[row.get(name, 0.0) for name in names] for row in given]).reshape(len(given), len(names))


def _kernel(
    rows: Float[np.ndarray, "M F"], others: Float[np.ndarray, "N F"], slope: float, length: float
) -> Float[np.ndarray, "M N"]:
    """A linear part, and a Gaussian one whose distances do not grow with the number of features."""
    count = max(rows.shape[1], 1)
    squares = (rows**2).sum(1)[:, None] + (others**2).sum(1) - 2 * rows @ others.T
    gaussian: Float[np.ndarray, "M N"] = np.exp(-squares / (2 * count * length**2))
    return gaussian + slope * (rows @ others.T) / count
