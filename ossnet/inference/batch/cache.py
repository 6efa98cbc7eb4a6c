"""What was predicted before: a note beside the results says what made them, so that none is made twice."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ossnet.config_tree import from_dict, to_dict
from ossnet.errors import UserError
from ossnet.inference.batch.inputs import ScanInput
from ossnet.inference.batch.options import ExportConfig, PredictConfig
from ossnet.output.atomic_write import atomic_write

FOLDER = "records"


@dataclass(frozen=True)
class PredictionResult:
    """What became of one scan."""

    case: str
    output: Path | None = None
    """None where it failed."""
    volumes_ml: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    """From reading to writing."""
    problem: str | None = None
    error_bound: float | None = None
    """hierarchical: at 95 % confidence a smaller share of the voxels that were filled in is wrong. Where one
    of those drawn was, all were asked."""
    kept: bool = False
    """There already, by the same checkpoint and settings from the same files: not predicted again."""

    def __str__(self) -> str:
        volumes = ", ".join(f"{name} {volume:.1f} ml" for name, volume in self.volumes_ml.items())
        return f"{self.case}: {volumes} ({'there already' if self.kept else f'{self.seconds:.1f} s'})"


@dataclass(frozen=True)
class PredictionCache:
    """The notes of one output folder."""

    output: Path
    asked: Mapping[str, Any]
    """What the results depend on beside the scan."""

    @classmethod
    def of(
        cls, checkpoint: Path, manner: PredictConfig, exported: ExportConfig, output: Path
    ) -> "PredictionCache":
        """For what a checkpoint gives in this manner, on whatever device."""
        how = {**to_dict(manner), "device": None}
        return cls(output, {"checkpoint": _digest(checkpoint), "manner": how, "exported": to_dict(exported)})

    def find(self, scan: ScanInput) -> PredictionResult | None:
        """The outcome of a scan that was predicted alike, if all its files are there and its images are
        unchanged.

        Raises:
            UserError: the note is damaged.
        """
        path = self._path(scan)
        if scan.problem is not None or not path.is_file():
            return None
        try:
            note = json.loads(path.read_text())
            alike = note["asked"] == self.asked and note["images"] == _state(scan)
            there = all((self.output / name).is_file() for name in note["files"])
            return (
                replace(from_dict(PredictionResult, note["outcome"]), kept=True) if alike and there else None
            )
        except (ValueError, KeyError, TypeError) as error:
            msg = f"{path}: expected the note of a prediction, found {type(error).__name__}: remove it"
            raise UserError(msg) from error

    def keep(self, scan: ScanInput, outcome: PredictionResult, files: list[Path]) -> None:
        """Note what was written for a scan, once all of it is."""
        note = {
            "asked": self.asked,
            "images": _state(scan),
            "files": [path.name for path in files],
            "outcome": to_dict(outcome),
        }
        atomic_write(self._path(scan), json.dumps(note, indent=2))

    def _path(self, scan: ScanInput) -> Path:
        return self.output / FOLDER / f"{scan.case}.json"


def _digest(checkpoint: Path) -> str:
    """Of all that prediction reads there; what training keeps to go on is not part of it."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(path for path in checkpoint.iterdir() if path.suffix in (".json", ".safetensors")):
        digest.update(path.name.encode())
        digest.update(hashlib.blake2b(path.read_bytes()).digest())
    return digest.hexdigest()


def _state(scan: ScanInput) -> list[list[Any]]:
    """Names, sizes and times of the images: enough to see that one was exchanged."""
    states = ((path, path.stat()) for path in scan.images)
    return [[str(path.absolute()), state.st_size, state.st_mtime_ns] for path, state in states]
