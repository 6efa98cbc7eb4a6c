"""Fake tensors, which have shapes and no values, and modes that watch operations on them or on real ones.

This uses private interfaces of torch: tests/models/test_torch_interfaces.py fails where torch changes them.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import cache
from itertools import accumulate
from math import prod
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor as TorchFakeTensor
from torch._subclasses.fake_tensor import FakeTensorMode as TorchFakeTensorMode

from ossnet.models.kernels._torch import DispatchMode, storage_key, tensors_in

_CPU, _META = torch.device("cpu"), torch.device("meta")
# operations whose results have other shapes, strides or types on the device `meta`
_BY_DEVICE = ("conv", "norm", "embedding_bag")
_MOST_RECIPES = 2**16  # of operations, so many that no search over configurations forgets what it uses


class WatchingMode(DispatchMode):
    """A mode that sees the tensors which each operation under it takes and makes.

    Within a `FakeTensorMode` that one passes them on, each fake tensor once, since each mode of torch costs
    as much time as an operation on fake tensors.
    """

    _fakes: "FakeTensorMode | None" = None

    def see(self, tensors: Iterable[Tensor]) -> None:
        """Called after each operation with its arguments and results."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        if FakeTensorMode.innermost:
            self._fakes = FakeTensorMode.innermost[-1]
            self._fakes.watchers.append(self)
            self._fakes.watched += 1
        else:
            super().__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self._fakes is None:
            super().__exit__(*error)
        else:
            self._fakes.watchers.remove(self)
            self._fakes = None

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        self.see(tensors_in((result,), tensors_in(kwargs.values(), tensors_in(args))))
        return result


class FakeTensor(Tensor):
    """A tensor of the CPU with a shape and no values: its storage has a size and no memory.

    Every operation on it outside a `FakeTensorMode` is an error.
    """

    geometry: int
    """A number for its shape, strides, type and offset, which never change."""
    seen: int = 0
    """What `FakeTensorMode.watched` was when its watchers saw it."""
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        msg = f"{func} on a fake tensor, which has no values, outside the mode that made it"
        raise RuntimeError(msg)

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"FakeTensor({tuple(self.shape)}, {self.dtype})"


class FakeTensorMode(DispatchMode):
    """Within it operations make fake tensors: shapes, types, strides and which storage each one has.

    What an operation makes of arguments of certain shapes is found out once. Torch's own mode of this name
    takes ten times as long, as its tensors go through Python whenever their device is read; it is asked where
    results depend on the device. Constants that come from Python or NumPy keep their values, and so does what
    is made of them only.
    """

    innermost: ClassVar[list["FakeTensorMode"]] = []
    """The modes that are on, the innermost last."""

    def __init__(self) -> None:
        super().__init__()
        self.watchers = list[WatchingMode]()
        self.watched = 0
        """How many watchers there were until now."""

    def __enter__(self) -> Self:
        super().__enter__()
        FakeTensorMode.innermost.append(self)
        return self

    def __exit__(self, *error: object) -> None:
        FakeTensorMode.innermost.pop()
        super().__exit__(*error)

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        tensors = tensors_in(kwargs.values(), tensors_in(args))
        fakes = FakeTensor in types if tensors else _makes_tensors(func)
        result = _imitate(func, args, kwargs, tensors) if fakes else func(*args, **kwargs)
        if self.watchers:
            new = [each for each in tensors_in((result,), tensors) if self._is_new(each)]
            for watcher in self.watchers:
                watcher.see(new)
        return result

    def _is_new(self, tensor: Tensor) -> bool:
        """Whether the youngest watcher has not seen a tensor yet."""
        if not isinstance(tensor, FakeTensor):
            return True
        new = tensor.seen != self.watched
        tensor.seen = self.watched
        return new


class _Same(NamedTuple):
    """A result that is one of the arguments."""

    argument: int


class _Strided(NamedTuple):
    """A result that is a tensor of its own, on a new storage or on an argument's."""

    storage: int
    """Number of the argument whose storage it has; below zero that of a new storage."""
    nbytes: int
    """Size of a new storage."""
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    geometry: int
    """`FakeTensor.geometry`."""


_recipes: dict[Hashable, Any] = {}
"""What operations make, by all that it depends on: values without tensors, lists, `_Same` and `_Strided`."""
_geometries: dict[Hashable, int] = {}


@cache
def _makes_tensors(func: Any) -> bool:
    return any(each.type.kind() == "TensorType" for each in func._schema.returns)


@cache
def _written(func: Any) -> int | str | None:
    """The argument that an operation fills and gives back as it is: its place, or its name where it has none.

    That covers operations in place and those into an `out` of the right shape; no other is used here.
    """
    returns = func._schema.returns
    if len(returns) != 1 or returns[0].alias_info is None or torch.Tag.inplace_view in func.tags:
        return None
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            return str(argument.name) if argument.kwarg_only else place
    return None


@cache
def _is_by_device(func: Any) -> bool:
    return any(word in str(func) for word in _BY_DEVICE)


@cache
def _torch_fakes() -> TorchFakeTensorMode:
    mode = TorchFakeTensorMode()
    mode.cache_enabled = False  # nothing is asked twice
    return mode


def _imitate(
    func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], tensors: Sequence[Tensor]
) -> Any:
    """The result of an operation, some of whose tensors are fake."""
    written = _written(func)
    if written is not None:
        return kwargs[written] if isinstance(written, str) else args[written]
    key = (func, _key(args), tuple([(name, _key(value)) for name, value in kwargs.items()]))
    recipe = _recipes.get(key)
    if recipe is None:
        if len(_recipes) >= _MOST_RECIPES:
            _recipes.clear()
        recipe = _recipes[key] = _try_out(func, args, kwargs, tensors)
    if not torch.is_inference_mode_enabled():
        return _follow(recipe, tensors, {})
    with torch.inference_mode(False):  # an inference tensor of a class of its own could not be viewed
        return _follow(recipe, tensors, {})


def _key(value: Any) -> Hashable:
    """All that the shapes of results depend on."""
    if isinstance(value, FakeTensor):
        try:
            return value.geometry
        except AttributeError:  # autograd made it, from one that was made here
            value.geometry = _geometry(value)
            return value.geometry
    if isinstance(value, Tensor):
        return _geometry(value)
    if isinstance(value, list | tuple):
        return tuple([_key(each) for each in value])
    return type(value), value  # 1, 1.0 and True are equal, but make other types


def _geometry(tensor: Tensor) -> int:
    return _number((tensor.shape, tensor.stride(), tensor.dtype, tensor.storage_offset()))


def _number(geometry: Hashable) -> int:
    return _geometries.setdefault(geometry, len(_geometries))


def _try_out(
    func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], tensors: Sequence[Tensor]
) -> Any:
    """The recipe of an operation, by carrying it out on tensors without memory.

    Raises:
        RuntimeError: it changes the shape of an argument.
    """
    if _is_pointwise(func) and not kwargs and all(each.numel() and each.is_contiguous() for each in tensors):
        return _try_on_one_element(func, args, tensors)
    mode = _torch_fakes() if _is_by_device(func) else None
    place = _META if mode is None else _CPU
    stand_ins = [_stand_in(each) for each in tensors]
    if mode is not None:
        stand_ins = [TorchFakeTensor(mode, each, _CPU) for each in stand_ins]
    with mode or nullcontext():
        given = iter(stand_ins)
        new_args = _replace(args, given, place)
        new_kwargs = {name: _replace(value, given, place) for name, value in kwargs.items()}
        if not tensors:
            new_kwargs["device"] = place
        result = func(*new_args, **new_kwargs)
    if any(_geometry(one) != _geometry(other) for one, other in zip(stand_ins, tensors, strict=True)):
        msg = f"{func}: it changes the shape or strides of its argument, which fake tensors cannot"
        raise RuntimeError(msg)
    storages = {storage_key(each.untyped_storage()): place for place, each in enumerate(stand_ins)}
    return _recipe(result, stand_ins, storages)


@cache
def _is_pointwise(func: Any) -> bool:
    """Whether an operation makes one tensor, of its arguments' elements one by one."""
    returns = func._schema.returns
    return (
        torch.Tag.pointwise in func.tags
        and torch.Tag.nondeterministic_seeded not in func.tags
        and len(returns) == 1
        and returns[0].alias_info is None
    )


def _try_on_one_element(func: Callable[..., Any], args: Sequence[Any], tensors: Sequence[Tensor]) -> _Strided:
    """The recipe of a pointwise operation on contiguous arguments, none empty; its result is contiguous.

    On the device `meta` such operations go through Python and take ten times as long.
    """
    ones = iter([torch.ones((1,) * each.ndim, dtype=each.dtype) for each in tensors])
    dtype = func(*_replace(args, ones, _CPU)).dtype
    shape = torch.broadcast_shapes(*(each.shape for each in tensors))
    stride = tuple(accumulate(reversed(shape[1:]), lambda step, size: step * size, initial=1))[::-1]
    stride = stride if shape else ()
    geometry = _number((shape, stride, dtype, 0))
    return _Strided(-1, prod(shape) * dtype.itemsize, dtype, 0, tuple(shape), stride, geometry)


def _stand_in(tensor: Tensor) -> Tensor:
    """A tensor of the same geometry on a storage of its own, without memory."""
    shape, stride, offset = tensor.shape, tensor.stride(), tensor.storage_offset()
    if not offset:
        return torch.empty_strided(shape, stride, dtype=tensor.dtype, device=_META)
    length = offset + 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    whole = torch.empty(max(length, 0) if tensor.numel() else offset, dtype=tensor.dtype, device=_META)
    return whole.as_strided(shape, stride, offset)


def _replace(value: Any, tensors: Iterator[Tensor], device: torch.device) -> Any:
    """An argument with each tensor in it replaced by the next one, and a device by another."""
    if isinstance(value, Tensor):
        return next(tensors)
    if isinstance(value, torch.device):
        return device
    if isinstance(value, list | tuple):
        return type(value)([_replace(each, tensors, device) for each in value])
    return value


def _recipe(result: Any, stand_ins: Sequence[Tensor], storages: dict[int, int]) -> Any:
    if isinstance(result, list | tuple):
        return [_recipe(each, stand_ins, storages) for each in result]
    if not isinstance(result, Tensor):
        return result
    for place, each in enumerate(stand_ins):
        if result is each:
            return _Same(place)
    storage = result.untyped_storage()
    place = storages.setdefault(storage_key(storage), -1 - len(storages))
    offset = int(result.storage_offset())
    shape, stride = tuple(result.shape), result.stride()
    return _Strided(place, storage.nbytes(), result.dtype, offset, shape, stride, _geometry(result))


def _follow(recipe: Any, tensors: Sequence[Tensor], made: dict[int, torch.UntypedStorage]) -> Any:
    """Carry out a recipe for the arguments given; `made` collects new storages."""
    if isinstance(recipe, _Strided):
        if recipe.storage >= 0:
            storage = tensors[recipe.storage].untyped_storage()
        elif recipe.storage in made:
            storage = made[recipe.storage]
        else:
            new: Any = torch._C._construct_storage_from_data_pointer(0, _CPU, recipe.nbytes)
            storage = made[recipe.storage] = new
        plain = torch.empty(0, dtype=recipe.dtype)
        plain.set_(storage, recipe.offset, recipe.shape, recipe.stride)
        fake = Tensor._make_subclass(FakeTensor, plain)
        fake.geometry = recipe.geometry
        return fake
    if isinstance(recipe, _Same):
        return tensors[recipe.argument]
    if isinstance(recipe, list):
        return [_follow(each, tensors, made) for each in recipe]
    return recipe


def is_fake(tensor: Tensor) -> bool:
    """Whether a tensor has a shape and no values."""
    return isinstance(tensor, FakeTensor)


def fake_mode_is_on() -> bool:
    """Whether new tensors are fake: inside a `FakeTensorMode`."""
    return bool(FakeTensorMode.innermost)
