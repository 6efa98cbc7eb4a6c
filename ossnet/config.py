"""The one tree of a run's configuration, assembled from the parts' own."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ossnet import config_tree as tree
from ossnet.data.store.cache import DataConfig
from ossnet.errors import UserError
from ossnet.inference import InferenceConfig
from ossnet.models import NetworkConfig, OccupancyConfig, network_config
from ossnet.sampling import AugmentationConfig, SamplingConfig
from ossnet.sampling.grid import working_shape
from ossnet.sizing import coarsest_values, size_network
from ossnet.training import LossConfig, OptimizerConfig, TrainingConfig

if TYPE_CHECKING:
    from ossnet.data.store.dataset_info import DatasetSizes, DatasetSpec


@dataclass(frozen=True)
class Config:
    """All settings of a run except its data and where it runs.

    Examples:
        >>> config = Config.preset("oss-net-c").replace({"training.batch_size": 2, "model.decoder_width": 64})
        >>> config.model.decoder_width
        64
        >>> Config.from_json(config.to_json()) == config
        True
        >>> config.replace({"training.batchsize": 4})
        Traceback (most recent call last):
        ...
        ossnet.errors.UserError: configuration: ... did you mean 'training.batch_size'?
    """

    model: NetworkConfig
    """The network."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    """How points and patches are sampled from a case."""
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    """How a case is changed before it is sampled."""
    loss: LossConfig = field(default_factory=LossConfig)
    """The loss that is minimized."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """The optimizer and its learning rates."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """The length of the run, its batches and its validation."""
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    """How whole volumes are predicted."""
    data: DataConfig = field(default_factory=DataConfig)
    """How the store's files reach the nodes."""

    @classmethod
    def preset(cls, name: str, store: "DatasetSpec | None" = None) -> "Config":
        """The configuration of a preset network, sized for a store where one is given.

        A store of few training cases also makes the batch smaller.

        Raises:
            UserError: no such preset (names the nearest).
        """
        try:
            model = network_config(name)
        except ValueError as error:
            raise UserError(str(error)) from error
        if store is not None:
            task = store.task
            model = replace(
                model,
                in_channels=len(task.modalities),
                classes=task.classes,
                overlapping=task.overlapping,
            )
            model = size_network(model, store.max_shape)
        training = TrainingConfig()
        if store is not None and store.training_cases is not None:
            fitting = max(min(training.batch_size, store.training_cases), 1)
            training = replace(training, batch_size=fitting)
        return cls(model=model, training=training)

    def resolve_for(self, store: "DatasetSpec") -> "Config":
        """A copy with the working shape and the patches' precision set, after a check that the configuration
        fits the store.

        Raises:
            UserError: other channels or classes than the store's, or a working shape too small for a case.
        """
        for field_name, found, expected in (
            ("in_channels", self.model.in_channels, len(store.task.modalities)),
            ("classes", self.model.classes, store.task.classes),
        ):
            if found != expected:
                raise UserError(
                    f"model.{field_name}",
                    expected=f"{expected}, as the store {store.root} has",
                    found=str(found),
                    remedy="leave it out",
                )
        if self.model.overlapping != store.task.overlapping and self.model.classes > 1:
            overlapping, not_overlapping = (
                str(value).lower() for value in (self.model.overlapping, store.task.overlapping)
            )
            has = "regions that may overlap" if store.task.overlapping else "one class a voxel"
            raise UserError(
                "model.overlapping",
                expected=f"{not_overlapping}, as the store {store.root} has {has}",
                found=overlapping,
                remedy="leave it out",
            )
        working = self.sampling.working_shape
        if working is None:
            working = working_shape(store.max_shape, multiple=self.model.grid_multiple)
        elif any(edge < needed for edge, needed in zip(working, store.max_shape, strict=True)):
            raise UserError(
                "sampling.working_shape",
                expected=f"at least the store's largest case {store.max_shape}",
                found=str(working),
                remedy="enlarge it, or leave it out",
            )
        image_dtype = "float32" if store.storage == "int16" else self.sampling.image_dtype
        sampling = replace(self.sampling, working_shape=working, image_dtype=image_dtype)
        return replace(self, sampling=sampling)._checked_depth()

    @property
    def is_too_deep(self) -> bool:
        """Whether a single value is left at the coarsest level, by which nothing can be normalized."""
        shape, volumes = self.sampling.crop_shape or self.sampling.working_shape, self.training.batch_size
        part = -(-volumes // self.training.accumulation_steps)
        return shape is not None and coarsest_values(self.model, shape, volumes % part or part) < 2

    def _checked_depth(self) -> "Config":
        if not self.is_too_deep:
            return self
        occupancy = isinstance(self.model, OccupancyConfig)
        levels = "encoder_channels" if occupancy else "channels"
        raise UserError(
            f"model.{levels}",
            expected="two voxels or more at the coarsest level"
            + ", of all volumes that pass together" * occupancy,
            found=f"one, of a volume of {self.sampling.crop_shape or self.sampling.working_shape}",
            remedy="leave out a level" + ", or pass more volumes together" * occupancy,
        )

    def dummy_dataset(self) -> "DatasetSizes":
        """A data set that this configuration fits, to plan without a store: one case of the working shape.

        Without a working shape it is the size of the paper's BraTS cases.
        """
        from ossnet.data.labels.scheme import ClassScheme
        from ossnet.data.store.dataset_info import BRATS, DatasetSizes

        return DatasetSizes.of(
            channels=self.model.in_channels,
            scheme=ClassScheme.of(self.model),
            shape=self.sampling.working_shape or BRATS.max_shape,
        )

    def replace(self, changes: Mapping[str, Any]) -> "Config":
        """A copy with the values at the given dotted paths changed.

        Raises:
            UserError: an unknown path (names the nearest), or a value that does not fit.
        """
        return tree.replace(self, changes)

    def flatten(self) -> dict[str, Any]:
        """Every value under its dotted path."""
        return tree.flatten(self)

    def to_json(self) -> str:
        """The configuration as a JSON text."""
        return json.dumps(tree.to_dict(self), indent=2)

    @classmethod
    def from_json(cls, source: str | Path) -> "Config":
        """Read what `to_json` wrote, from a text or a file.

        Raises:
            UserError: no JSON, an unknown key (names the nearest) or a value that does not fit.
        """
        text = source.read_text() if isinstance(source, Path) else source
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            where = source if isinstance(source, Path) else "configuration"
            raise UserError(where, expected="JSON", found=str(error)) from error
        return tree.from_dict(cls, values)
