"""The shapes of results on ``meta``, remembered, as PyTorch takes a long time to find them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


class Shapes:
    """Calls operators, and remembers the shapes, strides and types of what they return.

    The layers of a network repeat each other, so most calls have been made before with tensors of
    the same shapes.
    """

    def __init__(self) -> None:
        self._known: dict[Any, Any] = {}

    def call(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Return ``func(*args, **kwargs)``, or new tensors on ``meta`` that look the same."""
        key = func, _key(args), tuple((name, _key(value)) for name, value in kwargs.items())
        if key in self._known:
            return _again(self._known[key])
        result = func(*args, **kwargs)
        if _is_new(func, args, result):
            self._known[key] = _looks(result)
        return result


def _key(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.shape, value.stride(), value.storage_offset(), value.dtype, value.device
    if isinstance(value, list | tuple):
        return tuple(map(_key, value))
    return type(value), value  # 1, 1.0 and True are equal


def _is_new(func: Any, args: Sequence[Any], result: Any) -> bool:
    """Return whether all tensors in ``result`` are on ``meta`` and in storages of their own."""
    made = tensors_in(result)
    if func._schema.is_mutable or not made or not all(x.is_meta for x in made):
        return False
    given = {x.untyped_storage()._cdata for x in tensors_in(args)}
    return given.isdisjoint(x.untyped_storage()._cdata for x in made)


def tensors_in(value: Any) -> list[Tensor]:
    """Return the tensors in ``value``, which may be one, or a list or tuple of them."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [x for each in value for x in tensors_in(each)]
    return []


def _looks(value: Any) -> Any:
    if isinstance(value, Tensor):
        return _Look((value.shape, value.stride(), value.dtype))
    if isinstance(value, list | tuple):
        return type(value)(map(_looks, value))
    return value


def _again(value: Any) -> Any:
    if isinstance(value, _Look):
        size, stride, dtype = value
        return torch.empty_strided(size, stride, dtype=dtype, device="meta")
    if isinstance(value, list | tuple):
        return type(value)(map(_again, value))
    return value


class _Look(tuple):
    """Size, stride and type of a tensor."""
