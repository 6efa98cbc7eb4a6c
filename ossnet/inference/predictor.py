"""From a checkpoint to labels on a scan's own grid.

Letters: C channels, K foreground classes, X Y Z voxel axes in nibabel's order.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer, UInt8
from torch import nn

from ossnet.config_tree import from_dict
from ossnet.data import Geometry, Scan, Task, preprocess, restore, write_nifti
from ossnet.data.imaging.geometry import Spacing
from ossnet.data.labels.codes import in_class, members
from ossnet.errors import UserError
from ossnet.inference.arrays import scan_from_array
from ossnet.inference.config import Axis, InferenceConfig, Method, Precision
from ossnet.inference.methods.audit import Audit
from ossnet.inference.query.grid import QueryGrid, with_spacing
from ossnet.inference.temperature import read_temperature
from ossnet.inference.volume import predict_volume
from ossnet.memory.device import resolve_device
from ossnet.models import DenseConfig, DenseNetwork, NetworkConfig, network_from_config
from ossnet.sampling import SamplingConfig
from ossnet.training.checkpoint import check_checkpoint, load_weights
from ossnet.training.compilation import maybe_compile

Images = Path | str | Sequence[Path | str] | tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Segmentation:
    """Labels on the grid of the scan they were predicted from, or a finer one that was asked for."""

    labels: Integer[np.ndarray, "X Y Z"]
    """The task's label values, 0 for the background; of regions as `Task.decode` writes them."""
    geometry: Geometry
    """Shape, affine and header, those of the scan unless another spacing was asked for."""
    volumes_ml: Mapping[str, float]
    """Volume of every class in milliliters."""
    probabilities: Mapping[str, Float[np.ndarray, "X Y Z"]] | None = None
    """Probability of every class, where it was asked for."""
    regions: Mapping[str, UInt8[np.ndarray, "X Y Z"]] = field(default_factory=dict)
    """Every region, 1 inside it, where one label map cannot show them all."""
    codes: UInt8[np.ndarray, "X Y Z"] | None = None
    """What was decided (`ossnet.data.labels.codes`); `mask` tells classes from it."""
    overlapping: bool = False
    audit: Audit | None = None
    """Of the voxels that the hierarchical method filled in."""

    def mask(self, name: str) -> Bool[np.ndarray, "X Y Z"]:
        """Where one class is."""
        assert self.codes is not None
        return in_class(self.codes, list(self.volumes_ml).index(name), overlapping=self.overlapping)

    @property
    def affine(self) -> Float[np.ndarray, "4 4"]:
        """From voxel indices to mm in RAS+."""
        return np.array(self.geometry.affine)

    def save(self, path: Path) -> None:
        """Write the labels as NIfTI with the scan's header; aside first, then renamed.

        Of regions that one label map cannot show, each also becomes a file beside it: `case_seg.nii.gz` has
        `case_REGION_seg.nii.gz` beside it.
        """
        for name, mask in self.regions.items():
            write_nifti(path.with_name(_with_region(path.name, name)), mask, self.geometry)
        write_nifti(path, self.labels, self.geometry)


@dataclass(frozen=True)
class Predictor:
    """A trained network with all that it needs to judge a new scan."""

    network: nn.Module
    task: Task
    sampling: SamplingConfig
    settings: InferenceConfig
    spacing: Spacing | None = None
    """Voxel size of the results in mm along R, A and S; None is each scan's own."""
    temperature: float = 1.0
    """Of the probabilities (`ossnet.inference.temperature`); it changes no decision."""

    @classmethod
    def from_checkpoint(
        cls,
        path: Path | str,
        *,
        method: Method | None = None,
        precision: Precision | None = None,
        flips: Sequence[Axis] | None = None,
        spacing: Spacing | None = None,
        compiled: bool = False,
        device: str | None = None,
    ) -> "Predictor":
        """Read what training wrote, and the temperature if one was fitted.

        Args:
            method: of `InferenceConfig`; by default the checkpoint's.
            precision: likewise.
            flips: likewise.
            spacing: voxel size of the results in mm along R, A and S; by default each scan's own.
            compiled: have torch's compiler make the arithmetic between matrix products.
            device: where to predict; by default the current CUDA device, or the CPU.

        Raises:
            UserError: no checkpoint there, one of a later format or a damaged one, or no compiler; or another
                spacing from a U-Net.
        """
        folder = Path(path)
        check_checkpoint(folder)
        parts = _read_json(folder / "config.json")
        task = Task.from_dict(_read_json(folder / "task.json"), folder / "task.json")
        saved = from_dict(
            _Saved, {name: parts.get(name, {}) for name in _Saved.__annotations__}, "config.json"
        )
        _check_classes(saved.model, task, folder)
        _check_spacing(saved.model, spacing)
        network = network_from_config(saved.model)
        load_weights(folder, network)
        place = resolve_device(device)
        network.to(place).eval()
        maybe_compile(compiled, network)
        settings = saved.inference
        settings = replace(
            settings,
            method=method or settings.method,
            precision=precision or settings.precision,
            flips=settings.flips if flips is None else tuple(flips),
        )
        return cls(network, task, saved.sampling, settings, spacing, read_temperature(folder))

    def __call__(self, images: Images, *, with_probabilities: bool = False) -> Segmentation:
        """Segment one scan.

        Args:
            images: a NIfTI file (3-D, or 4-D with the task's modalities as channels), or one file a modality
                in the task's order, or voxels as nibabel gives them (channels last) and their affine.

        Raises:
            UserError: a file is missing or broken, or the scan has not the task's modalities.
        """
        return self.segment(self._scan(images), with_probabilities=with_probabilities)

    def segment(self, scan: Scan, *, with_probabilities: bool = False) -> Segmentation:
        """Segment one preprocessed scan.

        An occupancy network is asked at the voxels of the result; of a U-Net on another working grid each
        voxel of the scan gets what was decided at the nearest one.
        """
        geometry, grid = self._asked(scan.geometry)
        prediction = predict_volume(
            self.network,
            torch.from_numpy(scan.image),
            sampling=self.sampling,
            settings=self.settings,
            with_probabilities=with_probabilities,
            asked=grid,
            temperature=self.temperature,
        )
        task, codes = self.task, restore(prediction.classes.cpu().numpy(), geometry)
        chances = None
        if prediction.probabilities is not None:
            native = (restore(each, geometry) for each in prediction.probabilities.cpu().numpy())
            chances = dict(zip(task.class_names, native, strict=True))
        return Segmentation(
            labels=task.decode(codes),
            geometry=geometry,
            volumes_ml=_volumes_ml(codes, geometry, task),
            probabilities=chances,
            regions={} if task.nested else _masks(codes, task),
            codes=codes,
            overlapping=task.overlapping,
            audit=prediction.audit,
        )

    def _asked(self, scan: Geometry) -> tuple[Geometry, QueryGrid | None]:
        """The grid of the result, and how the network is asked for it where that is not the working grid."""
        if isinstance(self.network, DenseNetwork):
            return scan, None
        asked = scan.resampled_to(None) if self.spacing is None else with_spacing(scan, self.spacing)
        return asked, None if asked == scan else QueryGrid.over(scan, asked)

    def _scan(self, images: Images) -> Scan:
        if isinstance(images, Path | str):
            return preprocess([Path(images)], self.task)
        if isinstance(images[0], np.ndarray):
            array, affine = images
            return scan_from_array(np.asarray(array), np.asarray(affine), self.task)
        return preprocess([Path(str(each)) for each in images], self.task)


@dataclass(frozen=True)
class _Saved:
    """The parts of a checkpoint's configuration that prediction needs."""

    model: NetworkConfig
    sampling: SamplingConfig
    inference: InferenceConfig


def _read_json(path: Path) -> dict[str, object]:
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        msg = (
            f"{path}: expected a checkpoint's JSON, found {str(error).splitlines()[0]}: copy the folder again"
        )
        raise UserError(msg) from error
    if not isinstance(values, dict):
        msg = f"{path}: expected a JSON object, found {type(values).__name__}: copy the folder again"
        raise UserError(msg)
    return values


def _check_classes(model: NetworkConfig, task: Task, folder: Path) -> None:
    alike = model.overlapping == task.overlapping or task.classes == 1
    if model.classes != task.classes or not alike:
        msg = (
            f"{folder}: expected a network of the classes {', '.join(task.class_names)} of task.json, found "
            f"{model.classes} classes, overlapping {str(model.overlapping).lower()}: copy the folder again"
        )
        raise UserError(msg)


def _check_spacing(model: NetworkConfig, spacing: Spacing | None) -> None:
    if spacing is None:
        return
    if isinstance(model, DenseConfig):
        msg = f"spacing {spacing}: expected an occupancy network, found {model.name}: leave it out"
        raise UserError(msg)
    if not min(spacing) > 0:
        msg = f"spacing: expected sizes in mm above 0, found {spacing}"
        raise UserError(msg)


def _volumes_ml(codes: np.ndarray, geometry: Geometry, task: Task) -> dict[str, float]:
    voxel_ml = abs(float(np.linalg.det(np.array(geometry.affine)[:3, :3]))) / 1000
    inside = members(task.classes, overlapping=task.overlapping)
    counts = np.bincount(codes.reshape(-1), minlength=len(inside))
    return {
        name: float(counts @ column * voxel_ml)
        for name, column in zip(task.class_names, inside.T, strict=True)
    }


def _masks(codes: UInt8[np.ndarray, "X Y Z"], task: Task) -> dict[str, UInt8[np.ndarray, "X Y Z"]]:
    return {
        name: in_class(codes, index, overlapping=task.overlapping).astype(np.uint8)
        for index, name in enumerate(task.class_names)
    }


def _with_region(name: str, region: str) -> str:
    stem, mark, suffix = name.rpartition("_seg")
    if mark:
        return f"{stem}_{region}_seg{suffix}"
    stem, mark, suffix = name.partition(".")
    return f"{stem}_{region}{mark}{suffix}"
