"""A cache of predictions: a record next to the results says what made them, so that none is made twice."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ossnet.config_tree import from_dict, to_dict
from ossnet.errors import UserError
from ossnet.inference.batch.inputs import ScanInput
from ossnet.inference.config import ExportConfig, PredictConfig
from ossnet.output.atomic_write import atomic_write

FOLDER = "records"


@dataclass(frozen=True)
class PredictionResult:
    """The result of predicting one scan."""

    case: str
    """The case's name."""
    output: Path | None = None
    """The label map; None where the prediction failed."""
    volumes_ml: dict[str, float] = field(default_factory=dict)
    """Volume of every class in milliliters."""
    seconds: float = 0.0
    """Time from reading to writing."""
    error: str | None = None
    """Why the prediction failed; None where it did not."""
    error_bound: float | None = None
    """hierarchical: at 95 % confidence a smaller fraction of the interpolated voxels is wrong. Where one of
    those drawn was, all were queried."""
    cached: bool = False
    """Whether the same checkpoint and settings had made it before from the same files."""

    def __str__(self) -> str:
        volumes = ", ".join(f"{name} {volume:.1f} ml" for name, volume in self.volumes_ml.items())
        return f"{self.case}: {volumes} ({'there already' if self.cached else f'{self.seconds:.1f} s'})"


@dataclass(frozen=True)
class PredictionCache:
    """The records of one output folder."""

    output: Path
    """The folder of the results."""
    settings: Mapping[str, Any]
    """The settings that the results depend on in addition to the scan."""

    @classmethod
    def of(
        cls, checkpoint: Path, config: PredictConfig, export: ExportConfig, output: Path
    ) -> "PredictionCache":
        """The cache of what a checkpoint predicts with a configuration, on whatever device.

        It reads all of the checkpoint: make it once a job.
        """
        predict = {**to_dict(config), "device": None}
        settings = {"checkpoint": _digest(checkpoint), "predict": predict, "export": to_dict(export)}
        return cls(output, settings)

    def get(self, scan: ScanInput) -> PredictionResult | None:
        """The stored result of a scan, if all its files exist and its images and the settings are unchanged.

        Raises:
            UserError: the record is damaged.
        """
        path = self._path(scan)
        if scan.error is not None or not path.is_file():
            return None
        try:
            record = json.loads(path.read_text())
            unchanged = record["settings"] == self.settings and record["images"] == _image_states(scan)
            if not unchanged or not all((self.output / name).is_file() for name in record["files"]):
                return None
            return replace(from_dict(PredictionResult, record["result"]), cached=True)
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                path, expected="the record of a prediction", found=type(error).__name__, remedy="remove it"
            ) from error

    def put(self, scan: ScanInput, result: PredictionResult, files: Sequence[Path]) -> None:
        """Store the result of a scan, once all of its files are written."""
        record = {
            "settings": self.settings,
            "images": _image_states(scan),
            "files": [path.name for path in files],
            "result": to_dict(result),
        }
        atomic_write(self._path(scan), json.dumps(record, indent=2))

    def _path(self, scan: ScanInput) -> Path:
        return self.output / FOLDER / f"{scan.case}.json"


def _digest(checkpoint: Path) -> str:
    """The digest of all that prediction reads, which the state that training resumes from is not."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(path for path in checkpoint.iterdir() if path.suffix in (".json", ".safetensors")):
        digest.update(path.name.encode())
        digest.update(hashlib.blake2b(path.read_bytes()).digest())
    return digest.hexdigest()


def _image_states(scan: ScanInput) -> list[list[Any]]:
    """Names, sizes and times of the images: enough to see that one was exchanged."""
    states = ((path, path.stat()) for path in scan.images)
    return [[str(path.absolute()), state.st_size, state.st_mtime_ns] for path, state in states]
