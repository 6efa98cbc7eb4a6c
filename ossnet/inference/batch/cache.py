"""A cache of predictions: a record next to the results says what made them, so that none is made twice."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ossnet.config_tree import from_dict, to_dict
from ossnet.data.imaging.dicom import is_dicom, only_series
from ossnet.data.imaging.header import files_of
from ossnet.errors import UserError
from ossnet.inference.batch.scan_input import ScanInput
from ossnet.inference.config import ExportConfig, PredictConfig
from ossnet.inference.ensemble import Member
from ossnet.output.atomic_write import atomic_write, writing
from ossnet.output.file_stamp import FileStamp
from ossnet.output.remote.copies import update_file

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
    unlike: tuple[str, ...] = ()
    """What of the scan is unlike the training cases, a clause each; its result may be worse than theirs."""
    cached: bool = False
    """Whether the same checkpoint and settings had made it before from the same files."""

    def __str__(self) -> str:
        volumes = ", ".join(f"{name} {volume:.1f} ml" for name, volume in self.volumes_ml.items())
        done = "there already" if self.cached else f"{self.seconds:.1f} s"
        file = "" if self.output is None else self.output.name
        renamed = "" if file in ("", label_map(self.case)) else f", as {file}"
        unlike = f"; unlike the training data: {', '.join(self.unlike)}" if self.unlike else ""
        return f"{self.case}: {volumes} ({done}{renamed}){unlike}"


@dataclass(frozen=True)
class _FileState:
    """What a file was like when it was written."""

    size: int
    """Bytes."""
    time_ns: int
    """When it was last changed, in ns."""
    digest: str
    """Digest of its content, which tells where a copy has another time."""


@dataclass(frozen=True)
class _Record:
    """What is stored of one result."""

    settings: dict[str, Any]
    images: list[list[Any]]
    files: dict[str, _FileState]
    """The files of the result, by name."""
    earlier: dict[str, _FileState]
    """Those of the result before, which are there until the new ones have taken their places."""
    result: PredictionResult | None


@dataclass(frozen=True)
class PredictionCache:
    """The records of one output folder."""

    output: Path
    """The folder of the results."""
    settings: Mapping[str, Any]
    """The settings that the results depend on in addition to the scan."""

    @classmethod
    def of(
        cls, members: Sequence[Member], config: PredictConfig, export: ExportConfig, output: Path
    ) -> "PredictionCache":
        """The cache of what checkpoints predict together with a configuration, on whatever device.

        It reads all of the checkpoints: make it once a job.
        """
        digests = [_digest(each.checkpoint) for each in members]
        weighted = [f"{each.weight} {digest}" for each, digest in zip(members, digests, strict=True)]
        predict = {**to_dict(config), "device": None}
        settings = {
            "checkpoint": digests[0] if len(members) == 1 else weighted,
            "predict": predict,
            "export": to_dict(export),
        }
        return cls(output, settings)

    def get(self, scan: ScanInput) -> PredictionResult | None:
        """The stored result of a scan, if all its files exist and its images and the settings are unchanged.

        Where a file is not as it was written here, as after a correction by hand, the result is an error.

        Raises:
            UserError: the record is damaged.
        """
        if scan.error is not None:
            return None
        record = self._read(scan)
        try:
            self._check_own(record, [*record.files, label_map(scan.file)])
        except UserError as error:
            return PredictionResult(scan.case, error=str(error))
        unchanged = record.settings == self.settings and record.images == _as_json(image_files(scan))
        written = all(_is_as_written(self.output / name, state) for name, state in record.files.items())
        if record.result is None or not (unchanged and written):
            return None
        return replace(record.result, cached=True, output=self.output / label_map(scan.file))

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A folder for the files of one result until they are published; it goes at the end of the block."""
        with writing(self.output, "folder"):
            self.output.mkdir(parents=True, exist_ok=True)
            aside = Path(tempfile.mkdtemp(prefix=".", dir=self.output))
        try:
            yield aside
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def publish(
        self,
        scan: ScanInput,
        result: PredictionResult,
        files: Sequence[Path],
        images: Sequence[FileStamp] | None = None,
    ) -> None:
        """Move the files of a result from their folder to the output, and store the result.

        Args:
            images: the files of the scan, where it was read from copies.

        Raises:
            UserError: a file of that name is there that was not written here, or was changed since; then
                nothing is moved.
        """
        before = self._read(scan)
        self._check_own(before, [path.name for path in files])
        record = _Record(
            settings=dict(self.settings),
            images=_as_json(image_files(scan) if images is None else images),
            files={path.name: _state(path) for path in files},
            earlier=before.files | before.earlier,
            result=result,
        )
        atomic_write(self._path(scan), json.dumps(to_dict(record), indent=2))  # first: it proves what is ours
        for path in files:
            with writing(self.output / path.name):
                path.replace(self.output / path.name)

    def written(self, scan: ScanInput) -> list[Path]:
        """The files of a result that is published; its record comes first, as it proves what is ours."""
        return [self._path(scan), *(self.output / name for name in self._read(scan).files)]

    def update(self, scan: ScanInput) -> None:
        """Bring what another node published of a scan to the copy of an output on object storage.

        Raises:
            OSError: it cannot be read.
        """
        update_file(self._path(scan))
        for path in self.written(scan)[1:]:
            update_file(path)

    def _check_own(self, record: "_Record", names: Iterable[str]) -> None:
        """Reject files in the output that this record does not prove to be as they were written."""
        for name in names:
            path, states = self.output / name, [record.files.get(name), record.earlier.get(name)]
            if os.path.lexists(path) and not any(_is_as_written(path, state) for state in states if state):
                raise UserError(
                    path,
                    expected="the file that ossnet predict wrote, or none",
                    found="another file" if name not in record.files else "one that was changed since",
                    remedy="it is kept: move it away to predict this case again, or name another --output",
                )

    def _read(self, scan: ScanInput) -> "_Record":
        """The record of a scan; an empty one where there is none."""
        path = self._path(scan)
        if not path.is_file():
            return _Record({}, [], {}, {}, None)
        try:
            stored = json.loads(path.read_text())
            return _Record(
                settings=stored["settings"],
                images=stored["images"],
                files={name: _FileState(**state) for name, state in stored["files"].items()},
                earlier={name: _FileState(**state) for name, state in stored["earlier"].items()},
                result=from_dict(PredictionResult, stored["result"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                path, expected="the record of a prediction", found=type(error).__name__, remedy="remove it"
            ) from error

    def _path(self, scan: ScanInput) -> Path:
        return self.output / FOLDER / f"{scan.file}.json"


def label_map(file: str) -> str:
    """The name of the label map of a case whose files begin so."""
    return f"{file}_seg.nii.gz"


def _state(path: Path) -> _FileState:
    state = path.stat()
    digest = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    return _FileState(state.st_size, state.st_mtime_ns, digest)


def _is_as_written(path: Path, state: _FileState) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    found = path.stat()
    if found.st_size != state.size:
        return False
    return found.st_mtime_ns == state.time_ns or _state(path).digest == state.digest


def _digest(checkpoint: Path) -> str:
    """The digest of all that prediction reads, which the state that training resumes from is not."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(path for path in checkpoint.iterdir() if path.suffix in (".json", ".safetensors")):
        digest.update(path.name.encode())
        digest.update(hashlib.blake2b(path.read_bytes()).digest())
    return digest.hexdigest()


def image_files(scan: ScanInput) -> list[FileStamp]:
    """The files of a scan's images."""
    return [FileStamp.of(path) for image in scan.images for path in _files_of(image)]


def _as_json(files: Sequence[FileStamp]) -> list[list[Any]]:
    return [list(file) for file in files]


def _files_of(image: Path) -> tuple[Path, ...]:
    """The files of an image; of one that is not there none, which is reported when it is read."""
    try:
        return only_series(image).files if is_dicom(image) else files_of(image)
    except UserError:
        return ()
