"""Prediction of labels on a scan's own grid with a checkpoint.

Letters: C channels, K foreground classes, X Y Z voxel axes in nibabel's order.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer, UInt8
from torch import Tensor, nn

from ossnet.config_tree import from_dict, unknown_name
from ossnet.data import Geometry, Scan, Task, restore, write_nifti
from ossnet.data.imaging.geometry import Spacing, to_canonical
from ossnet.data.labels.scheme import ClassScheme
from ossnet.errors import UserError
from ossnet.inference.components import ComponentFilter, read_components
from ossnet.inference.config import Axis, InferenceConfig, Method, Precision
from ossnet.inference.methods.hierarchical import Audit
from ossnet.inference.query.grid import QueryGrid, with_spacing
from ossnet.inference.scans import Images, read_scan
from ossnet.inference.temperature import read_temperature
from ossnet.inference.volume import VolumePrediction, predict_volume
from ossnet.memory.device import resolve_device
from ossnet.models import DenseConfig, DenseNetwork, NetworkConfig, OccupancyNetwork, network_from_config
from ossnet.output.file_names import CLASS_BYTES, file_names
from ossnet.output.views import Picture, grid_text, listed, notebook_view, one_line
from ossnet.output.views.slices import Plane, planes_through
from ossnet.sampling import SamplingConfig
from ossnet.training.checkpoint import check_checkpoint, load_weights
from ossnet.training.checkpoint_files import checkpoint_folder
from ossnet.training.compilation import maybe_compile


@dataclass(frozen=True)
class Segmentation:
    """Labels on the grid of the scan they were predicted from, or on a requested finer one."""

    labels: Integer[np.ndarray, "X Y Z"]
    """The task's label values, 0 for the background; of regions as `Task.decode` writes them."""
    codes: UInt8[np.ndarray, "X Y Z"]
    """The decisions, in the codes of `scheme`."""
    scheme: ClassScheme
    """The task's classes."""
    geometry: Geometry
    """Shape, affine and header, those of the scan unless another spacing was requested."""
    volumes_ml: Mapping[str, float]
    """Volume of every class in milliliters."""
    probabilities: Mapping[str, Float[np.ndarray, "X Y Z"]] | None = None
    """Probability of every class, where requested."""
    regions: Mapping[str, UInt8[np.ndarray, "X Y Z"]] = field(default_factory=dict)
    """Every region, 1 inside it, where one label map cannot show them all."""
    audit: Audit | None = None
    """The check of the voxels that the hierarchical method interpolated; None of other methods."""
    planes: tuple[Plane, ...] = ()
    """Slices through the first modality and the decisions, for a notebook."""

    @classmethod
    def of(
        cls,
        codes: UInt8[np.ndarray, "X Y Z"],
        task: Task,
        geometry: Geometry,
        *,
        image: Float[np.ndarray, "C X Y Z"],
        probabilities: Mapping[str, Float[np.ndarray, "X Y Z"]] | None = None,
        audit: Audit | None = None,
    ) -> "Segmentation":
        """What decisions on a grid mean for a task.

        Args:
            image: the scan on the working grid, of which three slices are kept.
        """
        inside = to_canonical(task.display_class(codes[geometry.crop_slices]), geometry)
        return cls(
            labels=task.decode(codes),
            codes=codes,
            scheme=task.scheme,
            geometry=geometry,
            volumes_ml=_volumes_ml(codes, geometry, task.scheme),
            probabilities=probabilities,
            regions={} if task.nested else _masks(codes, task.scheme),
            audit=audit,
            planes=planes_through(image[0], inside),
        )

    def __repr__(self) -> str:
        volumes = [f"{name} {volume:.3g} ml" for name, volume in self.volumes_ml.items()]
        return one_line("Segmentation", f"{self._grid}; {listed(volumes)}")

    def _repr_html_(self) -> str:
        title, volumes = "Segmentation", [f"{name}: {ml:.3g} ml" for name, ml in self.volumes_ml.items()]
        spacing, values = self.geometry.canonical_spacing, range(1, self.scheme.classes + 1)
        pictures = [Picture.of(self.planes, values, spacing)] if self.planes else []
        return notebook_view(title, facts=[self._grid], pictures=pictures, classes=volumes)

    @property
    def _grid(self) -> str:
        return grid_text(self.geometry.shape, np.linalg.norm(self.affine[:3, :3], axis=0))

    def mask(self, name: str) -> Bool[np.ndarray, "X Y Z"]:
        """The mask of a class.

        Raises:
            UserError: there is no such class; names those that there are.
        """
        if name not in self.scheme.names:
            raise unknown_name("segmentation", "class", name, self.scheme.names)
        return self.scheme.in_class(self.codes, self.scheme.names.index(name))

    @property
    def affine(self) -> Float[np.ndarray, "4 4"]:
        """The matrix from voxel indices to mm in RAS+."""
        return np.array(self.geometry.affine)

    def save(self, path: Path | str) -> None:
        """Write the labels as NIfTI with the scan's header, atomically.

        Each region becomes a file of its own too where one label map cannot show them all: `case_seg.nii.gz`
        has `case_REGION_seg.nii.gz` next to it.
        """
        path, files = Path(path), file_names(self.regions, limit=CLASS_BYTES)
        for name, mask in self.regions.items():
            write_nifti(path.with_name(_with_region(path.name, files[name])), mask, self.geometry)
        write_nifti(path, self.labels, self.geometry)


@dataclass(frozen=True)
class Predictor:
    """A trained network with all that it needs to segment a new scan.

    Examples:
        >>> predictor = Predictor.from_checkpoint("runs/study")
        >>> predictor
        Predictor(oss-net-a on cpu: FLAIR, T1w, T1gd, T2w to edema, non-enhancing, enhancing)
        >>> segmentation = predictor("new_scan.nii.gz")
        >>> segmentation.labels.shape
        (28, 26, 22)
        >>> list(segmentation.volumes_ml)
        ['edema', 'non-enhancing', 'enhancing']
        >>> segmentation.save("labels.nii.gz")
    """

    network: nn.Module
    """The network, in evaluation mode on its device."""
    task: Task
    """The task of the network."""
    sampling: SamplingConfig
    """The sampling options of training: working shape and crops."""
    settings: InferenceConfig
    """The inference options."""
    spacing: Spacing | None = None
    """Voxel size of the results in mm along R, A and S; None is each scan's own."""
    temperature: float = 1.0
    """The divisor of the logits (`ossnet.inference.temperature`); it changes no decision."""
    components: ComponentFilter | None = None
    """Which components of the decisions are removed as too small; None: none."""

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
        """Read what training wrote, and the temperature and the sizes of components if they were fitted.

        Args:
            path: folder of the checkpoint, or of the run or the study that keeps it.
            method: how occupancy networks are queried; by default as the checkpoint says.
            precision: of matrix products and convolutions; by default as the checkpoint says.
            flips: the axes to average over; by default as the checkpoint says.
            spacing: voxel size of the results in mm along R, A and S; by default each scan's own.
            compiled: have torch's compiler make the arithmetic between matrix products.
            device: where to predict; by default the current CUDA device, or the CPU.

        Raises:
            UserError: there is no checkpoint, it is of another format or damaged, there is no compiler, or
                another spacing is requested from a dense network.
        """
        folder = checkpoint_folder(Path(path))
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
        network.to(resolve_device(device)).eval()
        maybe_compile(compiled, network)
        settings = saved.inference
        settings = replace(
            settings,
            method=method or settings.method,
            precision=precision or settings.precision,
            flips=settings.flips if flips is None else tuple(flips),
        )
        temperature, components = read_temperature(folder), read_components(folder, task)
        return cls(network, task, saved.sampling, settings, spacing, temperature, components)

    def __repr__(self) -> str:
        device, task = next(self.network.parameters()).device, self.task
        return one_line(
            "Predictor", f"{self.name} on {device}: {listed(task.modalities)} to {listed(task.class_names)}"
        )

    @property
    def name(self) -> str:
        """What the network is called."""
        if isinstance(self.network, DenseNetwork | OccupancyNetwork):
            return self.network.config.name
        return type(self.network).__name__

    def __call__(
        self,
        images: Images,
        *,
        affine: Float[np.ndarray, "4 4"] | None = None,
        with_probabilities: bool = False,
    ) -> Segmentation:
        """Segment one scan.

        Args:
            images: a file (3-D, or 4-D with the task's modalities as channels), a DICOM series (by its folder
                or one of its files), an image of nibabel, or
                voxels as it gives them (channels last); or one of these a modality, in the task's order or by
                name, as in `{"FLAIR": "flair.nii.gz", "T1w": "t1.nii.gz"}`.
            affine: of arrays, from voxel indices to mm in RAS+.
            with_probabilities: whether to return probabilities; every voxel is then decided by the network.

        Raises:
            UserError: a file is missing or broken, the scan has not the task's modalities, or an array has no
                affine.
        """
        return self.segment(
            read_scan(images, self.task, affine=affine), with_probabilities=with_probabilities
        )

    def segment(self, scan: Scan, *, with_probabilities: bool = False) -> Segmentation:
        """Segment one preprocessed scan.

        An occupancy network is queried at the voxels of the result; of a dense network on another working
        grid each voxel of the scan gets what was decided at the nearest one.
        """
        geometry, grid = self._requested(scan.geometry)
        prediction = self.predict(
            torch.from_numpy(scan.image), with_probabilities=with_probabilities, grid=grid
        )
        task, codes = self.task, restore(prediction.classes.cpu().numpy(), geometry)
        if self.components is not None:
            spacing = np.linalg.norm(np.array(geometry.affine)[:3, :3], axis=0)
            codes = self.components.apply(codes, task, spacing.tolist())
        probabilities = None
        if prediction.probabilities is not None:
            native = (restore(each, geometry) for each in prediction.probabilities.cpu().numpy())
            probabilities = dict(zip(task.class_names, native, strict=True))
        return Segmentation.of(
            codes, task, geometry, image=scan.image, probabilities=probabilities, audit=prediction.audit
        )

    def predict(
        self,
        image: Float[Tensor, "C X Y Z"],
        *,
        with_probabilities: bool = False,
        grid: QueryGrid | None = None,
        temperature: float | None = None,
    ) -> VolumePrediction:
        """Decide every voxel of a preprocessed volume.

        Args:
            with_probabilities: whether to return probabilities; every voxel is then decided by the network.
            grid: the voxels to decide, where they are not the volume's own; for occupancy networks only.
            temperature: of the probabilities; by default the fitted one.
        """
        return predict_volume(
            self.network,
            image,
            sampling=self.sampling,
            settings=self.settings,
            with_probabilities=with_probabilities,
            grid=grid,
            temperature=temperature or self.temperature,
        )

    def _requested(self, scan: Geometry) -> tuple[Geometry, QueryGrid | None]:
        """The grid of the result, and where the network is queried if that is not the working grid."""
        if isinstance(self.network, DenseNetwork):
            return scan, None
        requested = scan.resampled_to(None) if self.spacing is None else with_spacing(scan, self.spacing)
        return requested, None if requested == scan else QueryGrid.over(scan, requested)


@dataclass(frozen=True)
class _Saved:
    """The parts of a checkpoint's configuration that prediction needs."""

    model: NetworkConfig
    sampling: SamplingConfig
    inference: InferenceConfig


def _read_json(path: Path) -> dict[str, object]:
    remedy = "copy the folder again"
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        found = str(error).splitlines()[0]
        raise UserError(path, expected="a checkpoint's JSON", found=found, remedy=remedy) from error
    if not isinstance(values, dict):
        raise UserError(path, expected="a JSON object", found=type(values).__name__, remedy=remedy)
    return values


def _check_classes(model: NetworkConfig, task: Task, folder: Path) -> None:
    if replace(task.scheme, names=()) != ClassScheme.of(model):
        raise UserError(
            folder,
            expected=f"a network of the classes {', '.join(task.class_names)} of task.json",
            found=f"{model.classes} classes, overlapping {str(model.overlapping).lower()}",
            remedy="copy the folder again",
        )


def _check_spacing(model: NetworkConfig, spacing: Spacing | None) -> None:
    if spacing is None:
        return
    where = f"spacing {spacing}"
    if isinstance(model, DenseConfig):
        expected = "an occupancy network"
        raise UserError(where, expected=expected, found=model.name, remedy="leave it out")
    if not min(spacing) > 0:
        raise UserError(where, expected="sizes in mm above 0", found=str(min(spacing)))


def _volumes_ml(codes: np.ndarray, geometry: Geometry, scheme: ClassScheme) -> dict[str, float]:
    voxel_ml = abs(float(np.linalg.det(np.array(geometry.affine)[:3, :3]))) / 1000
    membership = scheme.membership
    counts = np.bincount(codes.reshape(-1), minlength=len(membership))
    return {
        name: float(counts @ column * voxel_ml)
        for name, column in zip(scheme.names, membership.T, strict=True)
    }


def _masks(codes: UInt8[np.ndarray, "X Y Z"], scheme: ClassScheme) -> dict[str, UInt8[np.ndarray, "X Y Z"]]:
    return {name: scheme.in_class(codes, index).astype(np.uint8) for index, name in enumerate(scheme.names)}


def _with_region(name: str, region: str) -> str:
    stem, mark, suffix = name.rpartition("_seg")
    if mark:
        return f"{stem}_{region}_seg{suffix}"
    stem, mark, suffix = name.partition(".")
    return f"{stem}_{region}{mark}{suffix}"
