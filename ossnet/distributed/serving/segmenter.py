"""What the server does with a scan: read, predict, and make what is requested of it."""

import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ossnet.config_tree import unknown_name
from ossnet.data.layouts.modalities import channel_names
from ossnet.distributed.serving.uploads import Upload, check_images, store_uploads, without_folder
from ossnet.errors import UserError
from ossnet.inference import Segmentation
from ossnet.inference.batch.cache import label_map
from ossnet.inference.batch.inputs import scan_of_fields
from ossnet.inference.batch.runner import PredictionJob
from ossnet.inference.batch.scan_input import ScanInput
from ossnet.inference.config import MeshFormat
from ossnet.inference.export.mesh import mesh_of, write_mesh
from ossnet.inference.scans import read_scan
from ossnet.output.file_names import CLASS_BYTES, file_name
from ossnet.output.palette import rgb
from ossnet.output.versions import versions

Kind = Literal["labels", "json", "mesh"]
_MEDIA = {"stl": "model/stl", "obj": "model/obj", "ply": "application/octet-stream"}


@dataclass(frozen=True)
class SegmentRequest:
    """What is requested of a scan."""

    kind: Kind = "labels"
    """The label map as NIfTI, numbers as JSON, or the mesh of a class."""
    class_name: str | None = None
    """The class of the mesh; where there is only one, that."""
    mesh: MeshFormat = "stl"
    """The format of the mesh."""
    smoothing: int = 0
    """Rounds of smoothing of the mesh."""


@dataclass(frozen=True)
class SegmentReply:
    """What was made of a scan."""

    result: dict[str, Any]
    """Volumes of the classes in ml, shape and spacing of the labels in mm, and what `predict` says too."""
    content: bytes
    """The file; empty for a mesh of a class that is not there."""
    media_type: str = "application/json"
    name: str = "result.json"
    """What the file is called."""


class Segmenter:
    """A network and the thread in which it predicts, one scan after the other.

    Args:
        job: the checkpoints and how they predict.
        scratch: a folder for the files of requests; each is empty again when its request ends.
        limit: bytes of a scan's voxels.

    Raises:
        UserError: the checkpoints cannot be read.
    """

    def __init__(self, job: PredictionJob, scratch: Path, *, limit: int) -> None:
        self._predictor, self._trained_on = job.predictor(), job.trained_on
        self._scratch, self._limit = scratch, limit
        self._thread = ThreadPoolExecutor(max_workers=1)

    @cached_property
    def about(self) -> dict[str, Any]:
        """What the server is, for its clients."""
        task = self._predictor.task
        return {
            "network": self._predictor.name,
            "version": versions().get("ossnet"),
            "classes": list(task.class_names),
            "modalities": list(channel_names(task.modalities)),
        }

    async def __call__(self, uploads: Sequence[Upload], request: SegmentRequest) -> SegmentReply:
        """Segment one scan when those before are done.

        Raises:
            UserError: the reasons for which `predict` has no result, with the client's names of the files;
                or there is no such class.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, uploads, request)

    def _run(self, uploads: Sequence[Upload], request: SegmentRequest) -> SegmentReply:
        with tempfile.TemporaryDirectory(dir=self._scratch) as name:
            folder = Path(name)
            try:
                self._check_class(request)
                return self._segment(uploads, request, folder)
            except UserError as error:
                raise without_folder(error, folder) from error

    def _segment(self, uploads: Sequence[Upload], request: SegmentRequest, folder: Path) -> SegmentReply:
        began = time.monotonic()
        scan = scan_of_fields(store_uploads(uploads, folder), self._predictor.task)
        if scan.error is not None:
            raise UserError(scan.error)
        check_images(scan.images, self._limit)
        image = read_scan(scan.images, self._predictor.task)
        segmentation = self._predictor.segment(image)
        audit = segmentation.audit
        result = {
            "case": scan.case,
            "volumes_ml": dict(segmentation.volumes_ml),
            "shape": list(segmentation.labels.shape),
            "spacing_mm": np.linalg.norm(segmentation.affine[:3, :3], axis=0).tolist(),
            "unlike": [] if self._trained_on is None else list(self._trained_on.differences(image)),
            "error_bound": None if audit is None else audit.error_bound,
            "seconds": time.monotonic() - began,
        }
        if request.kind == "json":
            return SegmentReply(result, json.dumps(result).encode())
        if request.kind == "labels":
            path = folder / label_map(scan.file)
            segmentation.save(path)
            return SegmentReply(result, path.read_bytes(), "application/gzip", path.name)
        return self._mesh(segmentation, scan, request, result, folder)

    def _mesh(
        self,
        segmentation: Segmentation,
        scan: ScanInput,
        request: SegmentRequest,
        result: dict[str, Any],
        folder: Path,
    ) -> SegmentReply:
        names = self._predictor.task.class_names
        name = request.class_name or names[0]
        mesh = mesh_of(segmentation.mask(name), segmentation.affine, smoothing=request.smoothing)
        path = folder / f"{scan.file}_{file_name(name, limit=CLASS_BYTES)}.{request.mesh}"
        if not len(mesh.faces):
            return SegmentReply(result, b"", _MEDIA[request.mesh], path.name)
        write_mesh(path, mesh, request.mesh, color=rgb(names.index(name)))
        return SegmentReply(result, path.read_bytes(), _MEDIA[request.mesh], path.name)

    def _check_class(self, request: SegmentRequest) -> None:
        names = self._predictor.task.class_names
        if request.class_name is not None and request.class_name not in names:
            raise unknown_name("segmentation", "class", request.class_name, names)
        if request.kind == "mesh" and request.class_name is None and len(names) > 1:
            raise UserError("class", expected=f"one of {', '.join(names)}", found="none")
