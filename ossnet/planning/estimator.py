"""Predicted peaks, each computed once: configurations that differ only in what takes no memory share one."""

from collections.abc import Hashable
from dataclasses import fields

from ossnet.config import Config
from ossnet.memory import PeakMemory
from ossnet.planning.inference import predict_inference
from ossnet.planning.peak import neediest, predict
from ossnet.training import OptimizerConfig


class PeakEstimator:
    """Predicts peaks of memory and caches them.

    Args:
        workers: number of workers that share a batch; training peaks are those of one of them.
        most_workers: how many they may become; peaks are then those with the neediest number of them.
    """

    def __init__(self, workers: int = 1, most_workers: int | None = None) -> None:
        self._workers, self._most_workers = workers, most_workers or workers
        self._training: dict[Hashable, PeakMemory] = {}
        self._inference: dict[Hashable, PeakMemory] = {}

    def training(self, config: Config) -> PeakMemory:
        """Predict the peak of one worker's training step.

        Raises:
            UserError: the configuration has no working shape yet.
        """
        key = _training_key(config)
        if key not in self._training:
            workers = neediest(config, self._workers, self._most_workers)
            self._training[key] = predict(config, workers=workers)
        return self._training[key]

    def inference(self, config: Config) -> PeakMemory:
        """Predict the peak of predicting one volume of the working shape.

        Raises:
            UserError: the configuration has no working shape yet.
        """
        key = _inference_key(config)
        if key not in self._inference:
            self._inference[key] = predict_inference(config)
        return self._inference[key]

    def gib(self, config: Config) -> float:
        """Predict the peak of one worker's training step, in GiB."""
        return self.training(config).allocated_gib

    def inference_gib(self, config: Config) -> float:
        """Predict the peak of predicting one volume of the working shape, in GiB."""
        return self.inference(config).allocated_gib


def _training_key(config: Config) -> Hashable:
    """Everything in a configuration that takes memory in training."""
    sampling, training = config.sampling, config.training
    return (
        config.model,
        config.loss,
        _optimizer_key(config.optimizer),
        (sampling.drawn, sampling.candidates, sampling.uncertain_points),
        (sampling.working_shape, sampling.crop_shape, sampling.slices, sampling.image_dtype),
        (training.batch_size, training.accumulation_steps, training.precision, training.device_cache_gib),
        (config.augmentation.noisy, config.augmentation.warps, bool(config.augmentation.extra)),
    )


def _inference_key(config: Config) -> Hashable:
    """Everything in a configuration that takes memory in inference."""
    return config.model, config.inference, config.sampling.working_shape, config.sampling.crop_shape


def _optimizer_key(config: OptimizerConfig) -> Hashable:
    """An optimizer's choices without its numbers: rates and decays take no memory."""
    values = [getattr(config, field.name) for field in fields(config)]
    return tuple(value for value in values if isinstance(value, bool) or not isinstance(value, int | float))
