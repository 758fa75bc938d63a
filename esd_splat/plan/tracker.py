"""Counts what a device would hold and compute, while code runs on tensors without data."""

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from typing_extensions import override

from esd_splat.plan.shapes import Shapes, tensors_in

BLOCK = 512
"""CUDA's caching allocator gives memory in multiples of this many bytes."""
aten = torch.ops.aten


class Tracker(TorchDispatchMode):
    """While open, counts the bytes of all live storages on one device, and the FLOPs there.

    Views share the storage of what they are views of, and a storage ends with its last tensor, so
    the count is that of the memory that the caching allocator has given out. What happens inside of
    an operator is not seen: workspaces and temporary copies.

    Tensors on ``meta`` have no data. Where code asks for a value, it gets true, 0.5 or ``integer``;
    where the number of results depends on values, as for a mask, it gets as many as there can be.

    Args:
        device: the type of the device.
        integer: what an integer on ``meta`` reads as.
    """

    def __init__(self, device: str = "meta", integer: int = 1) -> None:
        super().__init__()
        self.device, self.integer = device, integer
        self.live, self.peak, self.flops = 0, 0, 0
        self.peak_phase = ""
        """The phase in which ``live`` was highest."""
        self._sizes: dict[int, int] = {}
        self._phases: list[str] = []
        self._shapes = Shapes()

    def restart(self) -> None:
        """Forget the peak and the FLOPs so far."""
        self.peak, self.peak_phase, self.flops = self.live, "", 0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """While open, what happens is part of the phase ``name``, inside of the one around it."""
        self._phases.append(name)
        try:
            yield
        finally:
            self._phases.pop()

    def phased(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``function`` as a phase of its own."""

        def call(*args: Any, **kwargs: Any) -> Any:
            with self.phase(name):
                return function(*args, **kwargs)

        return call

    def size(self, tensors: Iterable[Tensor]) -> int:
        """Return the bytes of those storages of ``tensors`` that are on the device."""
        here = (t.untyped_storage() for t in tensors if t.device.type == self.device)
        return sum({storage._cdata: _rounded(storage.nbytes()) for storage in here}.values())

    @override
    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = NotImplemented
        if on_meta := any(x.is_meta for x in tensors_in(args)):
            result = self._answer(func._overloadpacket, args, kwargs)
        if result is NotImplemented and on_meta:
            result = self._shapes.call(func, args, kwargs)
        elif result is NotImplemented:
            result = func(*args, **kwargs)
        here = [x for x in tensors_in(result) if x.device.type == self.device]
        for tensor in here:
            self._note(tensor)
        counted = flop_registry.get(func._overloadpacket)
        if counted is not None and here:
            self.flops += counted(*args, **kwargs, out_val=result)
        return result

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._sizes:
            return
        self._sizes[key] = size = _rounded(storage.nbytes())
        self.live += size
        weakref.finalize(storage, self._gone, key).atexit = False
        if self.live > self.peak:
            self.peak, self.peak_phase = self.live, ", ".join(self._phases)

    def _gone(self, key: int) -> None:
        self.live -= self._sizes.pop(key)

    def _answer(self, packet: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Return the result of an operator that needs data, ``NotImplemented`` for all others."""
        first = args[0]
        if packet is aten._local_scalar_dense:
            return self._value(first)
        if packet is aten._to_copy and _leaves(kwargs):
            kind = kwargs.get("dtype") or first.dtype
            return torch.full(first.shape, self._value(first), dtype=kind, device=kwargs["device"])
        if packet is aten.copy_ and not first.is_meta:
            return first.fill_(self._value(args[1]))
        if packet is aten.nonzero:
            return first.new_empty((first.numel(), first.ndim), dtype=torch.long)
        if packet is aten.index and any(_is_mask(index) for index in args[1]):
            chosen = (_all_of(index) if _is_mask(index) else [index] for index in args[1])
            return packet.Tensor(first, [index for part in chosen for index in part])
        return NotImplemented

    def _value(self, tensor: Tensor) -> Any:
        if tensor.dtype is torch.bool:
            return True
        return 0.5 if tensor.is_floating_point() else self.integer


def _rounded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _leaves(kwargs: Mapping[str, Any]) -> bool:
    device = kwargs.get("device")
    return device is not None and torch.device(device).type != "meta"


def _is_mask(index: Any) -> bool:
    return isinstance(index, Tensor) and index.dtype is torch.bool


def _all_of(mask: Tensor) -> list[Tensor]:
    """Return the index tensors of a mask that is true everywhere."""
    flat = torch.arange(mask.numel(), device=mask.device)
    return list(torch.unravel_index(flat, mask.shape)) if mask.ndim > 1 else [flat]
