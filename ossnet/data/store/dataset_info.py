"""The sizes of a data set that a configuration depends on, where there is no store yet."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ossnet.data.labels.scheme import ClassScheme
from ossnet.data.labels.task import Task
from ossnet.data.store.quantization import Storage

Shape = tuple[int, int, int]


class DatasetSpec(Protocol):
    """The facts that decide the sizes of networks: stores and `DatasetSizes` have them."""

    @property
    def root(self) -> Path | str: ...
    @property
    def task(self) -> Task: ...
    @property
    def max_shape(self) -> Shape: ...
    @property
    def training_cases(self) -> int | None: ...
    @property
    def storage(self) -> Storage: ...


@dataclass(frozen=True)
class DatasetSizes:
    """Sizes of a data set that is not there."""

    task: Task
    max_shape: Shape
    """Voxels of its largest case."""
    root: Path | str = Path("(no store)")
    training_cases: int | None = None
    """Number of training cases, where that is known."""
    storage: Storage = "float16"
    """Number format of the images."""

    @classmethod
    def of(cls, *, channels: int, scheme: ClassScheme, shape: Shape) -> "DatasetSizes":
        """A data set whose modalities and classes have numbers for names."""
        labels = {f"class {number}": number for number in range(1, scheme.classes + 1)}
        regions: dict[str, tuple[str, ...]] = {}
        if scheme.overlapping:
            regions = {f"region {name}": (name,) for name in labels}
        modalities = tuple(f"modality {number}" for number in range(1, channels + 1))
        return cls(Task(modalities=modalities, labels=labels, regions=regions), shape)


BRATS = DatasetSizes.of(channels=4, scheme=ClassScheme(1), shape=(240, 240, 155))
"""The paper's brain tumours: four MR images, one region."""
