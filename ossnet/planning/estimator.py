"""Predictions that are made once: configurations that differ in what takes no memory share one."""

import json
from typing import Any

from ossnet.config_tree import to_dict
from ossnet.memory import PeakMemory
from ossnet.planning.inference import Applicable, predict_inference
from ossnet.planning.peak import Plannable, predict


class PeakEstimator:
    """Predicts peaks and remembers them."""

    def __init__(self, workers: int = 1) -> None:
        self._workers = workers
        self._training: dict[str, PeakMemory] = {}
        self._inference: dict[str, PeakMemory] = {}

    def training(self, config: Plannable) -> PeakMemory:
        """Peak of a training step of one worker.

        Raises:
            UserError: the configuration has no working shape yet.
        """
        key = _of_training(config)
        if key not in self._training:
            self._training[key] = predict(config, workers=self._workers)
        return self._training[key]

    def inference(self, config: Applicable) -> PeakMemory:
        """Peak of predicting one volume of the working shape.

        Raises:
            UserError: the configuration has no working shape yet.
        """
        key = _of_inference(config)
        if key not in self._inference:
            self._inference[key] = predict_inference(config)
        return self._inference[key]

    def gib(self, config: Plannable) -> float:
        """Peak of a training step in GiB."""
        return self.training(config).allocated_gib


def _of_training(config: Plannable) -> str:
    """All of a configuration that takes memory in training."""
    sampling, training = config.sampling, config.training
    optimizer = {name: value for name, value in to_dict(config.optimizer).items() if not _is_number(value)}
    return _text(
        model=to_dict(config.model),
        loss=to_dict(config.loss),
        optimizer=optimizer,
        points=(sampling.drawn, sampling.candidates, sampling.uncertain_points),
        voxels=(sampling.working_shape, sampling.crop_shape, sampling.slices),
        training=(training.batch_size, training.precision),
    )


def _of_inference(config: Applicable) -> str:
    sampling = config.sampling
    return _text(
        model=to_dict(config.model),
        voxels=(sampling.working_shape, sampling.crop_shape),
        inference=to_dict(config.inference),
    )


def _text(**kept: Any) -> str:
    return json.dumps(kept, sort_keys=True)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
