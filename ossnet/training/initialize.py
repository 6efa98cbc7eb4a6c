"""Starting a network from the weights of a trained one: modalities and classes are mapped by their names.

Letters: O outputs and I inputs of a layer.
"""

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ossnet import config_tree as tree
from ossnet.data import Task
from ossnet.errors import UserError
from ossnet.models import NetworkConfig, network_from_config
from ossnet.models.kernels._fake import FakeTensorMode
from ossnet.training.checkpoint import check_checkpoint
from ossnet.training.checkpoint_files import checkpoint_folder

Labels = Sequence[Hashable]
"""What each position along an axis of a tensor stands for; equal ones are the same in two networks."""
Shapes = Mapping[str, tuple[int, ...]]

_OF_THE_TASK = ("in_channels", "classes", "overlapping")
_WITHOUT_WEIGHTS = ("name", "checkpoint_activations")
_BACKGROUND = 0
_PROBES = (7, 8)  # channels or classes more, to see which axes follow; two, as one may equal a layer's width
_SHOWN = 4


@dataclass(frozen=True)
class TrainedNetwork:
    """The network of a checkpoint, and the task that it was trained for."""

    folder: Path
    model: NetworkConfig
    task: Task

    @classmethod
    def read(cls, path: Path) -> "TrainedNetwork":
        """Read that of a checkpoint's folder, or of a run's or a study's.

        Raises:
            UserError: there is no checkpoint of ours, or one of another format.
        """
        folder = checkpoint_folder(path)
        check_checkpoint(folder)
        config = json.loads((folder / "config.json").read_text())
        task = json.loads((folder / "task.json").read_text())
        model = tree.from_dict(NetworkConfig, config["model"], f"{folder / 'config.json'}: model")
        return cls(folder, model, Task.from_dict(task, folder / "task.json"))

    def sizes(self) -> dict[str, Any]:
        """The fields of the network that do not depend on the task, by dotted path."""
        left_out = {"kind", "name", *_OF_THE_TASK}
        values = tree.flatten(self.model)
        return {f"model.{name}": value for name, value in values.items() if name not in left_out}

    def check_preset(self, model: NetworkConfig) -> None:
        """Reject a network that began as another preset.

        Raises:
            UserError: names both.
        """
        if model.name != self.model.name:
            raise UserError(
                "model",
                expected=f"{self.model.name}, as the network of {self.folder} is",
                found=model.name,
                remedy=f"give --model {self.model.name}, or another checkpoint",
            )

    def check(self, model: NetworkConfig) -> None:
        """Reject a network of another architecture.

        Raises:
            UserError: names the first field that differs.
        """
        left_out = {*_OF_THE_TASK, *_WITHOUT_WEIGHTS}
        names = [each.name for each in fields(self.model) if each.name not in left_out]
        for name in ["kind", *names]:
            expected, found = getattr(self.model, name), getattr(model, name, None)
            if expected != found:
                raise UserError(
                    f"model.{name}",
                    expected=f"{expected}, as the network of {self.folder} has",
                    found=str(found),
                    remedy=f"give --model {self.model.name} and no fields of it, or another checkpoint",
                )


@dataclass(frozen=True)
class Initialization:
    """How the weights of a trained network become those of a new one."""

    trained: TrainedNetwork
    model: NetworkConfig
    """The new network."""
    task: Task
    """What it is to learn."""
    kept: tuple[str, ...]
    """Tensors that are taken as they are."""
    mapped: Mapping[str, tuple[tuple[Labels, Labels], ...]]
    """Tensors that are taken in part: what the positions of each axis stand for, before and now."""
    fresh: tuple[str, ...]
    """Tensors of which nothing is taken."""

    @classmethod
    def plan(cls, trained: TrainedNetwork, model: NetworkConfig, task: Task) -> "Initialization":
        """Compare the tensors of both networks, without their values.

        Raises:
            UserError: the networks differ in more than their channels and classes; names the first field.
        """
        trained.check(model)
        before, now = _shapes(trained.model), _shapes(model)
        probes = {
            name: {more: _shapes(replace(model, **{name: getattr(model, name) + more})) for more in _PROBES}
            for name in ("in_channels", "classes")
        }
        kept, mapped, fresh = list[str](), dict[str, tuple[tuple[Labels, Labels], ...]](), list[str]()
        for name, shape in now.items():
            if name not in before or len(before[name]) != len(shape):
                fresh.append(name)
                continue
            axes = tuple(
                _axis_labels(name, axis, before, now, probes, ((trained.model, trained.task), (model, task)))
                for axis in range(len(shape))
            )
            if all(list(old) == list(new) for old, new in axes):
                kept.append(name)
            else:
                mapped[name] = axes
        return cls(trained, model, task, tuple(kept), mapped, tuple(fresh))

    def apply(self, network: nn.Module) -> None:
        """Put the trained weights in the place of a new network's.

        A new output keeps its fresh weights. A new input of an output that is kept has no weight at first, so
        that what the network knew gives what it gave.
        """
        from safetensors.torch import load_file

        trained = load_file(self.trained.folder / "model.safetensors")
        inputs = _input_axes(network)
        state = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
        for name in self.kept:
            state[name] = trained[name]
        for name, axes in self.mapped.items():
            _take(state[name], trained[name], axes, inputs.get(name))
        network.load_state_dict(state)

    def __str__(self) -> str:
        """What is kept, mapped and made anew, in one line."""
        modalities = _compare(self.trained.task.modalities, self.task.modalities)
        classes = _compare(self.trained.task.class_names, self.task.class_names)
        return (
            f"starts from {self.trained.folder}: {len(self.kept)} tensors are kept, {len(self.mapped)} "
            f"mapped by name, {len(self.fresh)} made anew; modalities: {modalities}; classes: {classes}"
        )


def _shapes(model: NetworkConfig) -> Shapes:
    """The shapes of a network's tensors, which is not really built."""
    with FakeTensorMode(), torch.random.fork_rng(devices=[]):
        return {name: tuple(each.shape) for name, each in network_from_config(model).state_dict().items()}


def _outputs(model: NetworkConfig, task: Task) -> Labels:
    """What each logit of a network stands for."""
    return [_BACKGROUND, *task.class_names] if model.logits > model.classes else list(task.class_names)


def _axis_labels(
    name: str,
    axis: int,
    before: Shapes,
    now: Shapes,
    probes: Mapping[str, Mapping[int, Shapes]],
    networks: tuple[tuple[NetworkConfig, Task], tuple[NetworkConfig, Task]],
) -> tuple[Labels, Labels]:
    """What the positions along an axis of a tensor stand for in the trained network and in the new one.

    An axis that follows the number of channels or classes otherwise than by so many positions each (as the
    hidden channels of patches do) is mapped from its beginning.

    Args:
        probes: shapes of the new network with so many more of a field's.
        networks: the trained one and the new one.
    """
    size = now[name][axis]
    sizes = before[name][axis], size
    grown = {
        field: {more: shapes[name][axis] - size for more, shapes in each.items() if name in shapes}
        for field, each in probes.items()
    }
    if any(grown["in_channels"].values()):
        times = size // networks[1][0].in_channels
        if all(growth == times * more for more, growth in grown["in_channels"].items()):
            parts = range(times)
            names = [[(part, each) for part in parts for each in of.modalities] for _, of in networks]
            if (len(names[0]), len(names[1])) == sizes:
                return names[0], names[1]
    elif any(grown["classes"].values()):
        for labels in (_of_classes, _outputs, _of_both):
            old, new = (labels(*network) for network in networks)
            if (len(old), len(new)) == sizes:
                return old, new
    return range(sizes[0]), range(size)


def _of_classes(_: NetworkConfig, task: Task) -> Labels:
    return list(task.class_names)


def _of_both(model: NetworkConfig, task: Task) -> Labels:
    """Logits, then a distance for each class."""
    return [*_outputs(model, task), *(("distance", name) for name in task.class_names)]


def _input_axes(network: nn.Module) -> dict[str, int]:
    """The axis of each weight along which a layer's inputs lie."""
    axes = {}
    for name, module in network.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, Tensor) and weight.ndim >= 2:
            transposed = isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d)
            axes[f"{name}.weight"] = 0 if transposed else 1
    return axes


def _take(
    tensor: Tensor, trained: Tensor, axes: Sequence[tuple[Labels, Labels]], input_axis: int | None
) -> None:
    """Fill the part of a new tensor that a trained one has; see `Initialization.apply`."""
    targets, sources, added = list[list[int]](), list[list[int]](), list[list[int]]()
    for old, new in axes:
        places = {label: position for position, label in enumerate(old)}
        targets.append([position for position, label in enumerate(new) if label in places])
        sources.append([places[label] for label in new if label in places])
        added.append([position for position, label in enumerate(new) if label not in places])
    if input_axis is not None and added[input_axis]:
        beside = [*targets]
        beside[input_axis] = added[input_axis]
        tensor[_grid(beside)] = 0
    tensor[_grid(targets)] = trained[_grid(sources)]


def _grid(positions: Sequence[Sequence[int]]) -> tuple[Tensor, ...]:
    """An index of all combinations of positions along each axis."""
    last = len(positions) - 1
    return tuple(
        torch.tensor(each, dtype=torch.long).view(-1, *(1,) * (last - axis))
        for axis, each in enumerate(positions)
    )


def _compare(before: Sequence[str], now: Sequence[str]) -> str:
    kept = [name for name in now if name in before]
    parts = {
        "kept": kept,
        "new": [name for name in now if name not in before],
        "left out": [name for name in before if name not in now],
    }
    return ", ".join(f"{_listed(names)} {what}" for what, names in parts.items() if names)


def _listed(names: Sequence[str]) -> str:
    if len(names) <= _SHOWN:
        return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
    return f"{', '.join(names[: _SHOWN - 1])} and {len(names) - _SHOWN + 1} others"
