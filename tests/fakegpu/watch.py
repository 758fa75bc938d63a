"""The mode that sees every operator on fake tensors, counts what it costs, and finds what is wrong.

It stands above ``FakeTensorMode``, and answers the operators whose result depends on data.
"""

from collections.abc import Iterable, Iterator
from typing import Any, TypeGuard

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.fakegpu.counts import Counts, place

A: Any = torch.ops.aten
DEVICE = torch.ops.prim.device.default
STATISTICS = {
    A.native_layer_norm_backward,
    A.native_group_norm_backward,
    A._scaled_dot_product_flash_attention_backward,
    A._scaled_dot_product_efficient_attention_backward,
}
"""Operators that are given what the forward pass noted in float32 beside its own type."""
BY_DESIGN = {
    # peft adds the LoRA's float32 update to the layer's output, and rounds the sum.
    "aten.add.Tensor @ peft/tuners/lora/layer.py forward",
    # diffusers joins SDXL's sizes, as they come from sines, to the text, and rounds both.
    "aten.cat.default @ diffusers/models/unets/unet_2d_condition.py get_aug_embed",
    # SD3's table of positions is no weight, so a pass in float32 adds it in half precision.
    "aten.add.Tensor @ diffusers/models/embeddings.py forward",
    # In float64, so that all devices find the same bits, or as small differences of large numbers.
    "esd_splat.classify.default @ scene/densify/classify.py classify_native",
    "aten.sub.Tensor @ scene/densify/growth.py _offspring",
    "esd_splat.observe.default @ scene/densify/classify.py observe_native",
    "aten.add_.Tensor @ scene/densify/classify.py observe_torch",
    "aten.mul.Tensor @ distill/pool.py eps",
}
"""The only places where tensors of several floating types meet."""


class Watch(TorchDispatchMode):
    """Counts while it is active, see ``Counts``."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = Counts()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled, and the wrapper around each call would cost time

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is DEVICE:  # half of all calls, so not left to the fake mode
            return args[0].device
        # Memory on the host cannot be pinned without CUDA.
        kwargs = {name: value for name, value in (kwargs or {}).items() if name != "pin_memory"}
        answer = ANSWERS.get(func.overloadpacket)
        result = NotImplemented if answer is None else answer(self.counts, *args, **kwargs)
        if result is NotImplemented:
            self._look(func, args, kwargs)
            result = func(*args, **kwargs)
        for x in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(x, Tensor):
                self.counts.allocated(x)
        return result

    def _look(self, func: Any, args: Any, kwargs: Any) -> None:
        packet = func.overloadpacket
        if packet is A._to_copy:
            self._copy(args[0], kwargs.get("device") or args[0].device, kwargs.get("non_blocking"))
            return
        if packet is A.copy_:
            self._copy(args[1], args[0].device, kwargs.get("non_blocking") or args[2:] == (True,))
            return
        dtypes, devices = set(), set()
        for x in _tensors((*args, *kwargs.values())):
            if x.dim():  # numbers are passed to a kernel, and change no type
                devices.add(x.device)
                if x.is_floating_point():
                    dtypes.add(x.dtype)
        if len(devices) > 1:
            self.counts.faults[f"{func} takes {_names(devices)} @ {place(libraries=True)}"] += 1
        if len(dtypes) > 1 and packet not in STATISTICS:
            where = place(libraries=True)
            if f"{func} @ {where}" not in BY_DESIGN:
                self.counts.faults[f"{func} takes {_names(dtypes)} @ {where}"] += 1

    def _copy(self, source: Tensor, target: Any, non_blocking: bool | None) -> None:
        kinds = source.device.type, torch.device(target).type
        if kinds == ("cpu", "cuda"):
            self.counts.uploads[place()] += 1
        if kinds == ("cuda", "cpu") and not non_blocking:
            self.counts.wait(source)


def _names(kinds: Iterable[Any]) -> str:
    return " and ".join(sorted(map(str, kinds)))


def _tensors(args: Iterable[Any]) -> Iterator[Tensor]:
    for x in args:
        if isinstance(x, Tensor):
            yield x
        elif isinstance(x, (tuple, list)):
            yield from _tensors(x)


def _scalar(counts: Counts, x: Tensor) -> bool | int | float:
    counts.wait(x)
    return True if x.dtype == torch.bool else 1.0 if x.is_floating_point() else 1


def _nonzero(counts: Counts, x: Tensor) -> Tensor:
    counts.wait(x)
    return x.new_empty((_half(x), x.dim()), dtype=torch.int64)


def _masked_select(counts: Counts, x: Tensor, mask: Tensor) -> Tensor:
    counts.wait(x)
    return x.new_empty(_half(mask))


def _unique(counts: Counts, x: Tensor, *options: bool) -> tuple[Tensor, Tensor, Tensor]:
    counts.wait(x)
    inverse, found = (x.new_empty(n, dtype=torch.int64) for n in (x.numel(), _half(x)))
    return x.new_empty(_half(x)), inverse, found


def _index(counts: Counts, x: Tensor, indices: list[Tensor | None]) -> Any:
    if not any(_is_mask(i) for i in indices):
        return NotImplemented
    counts.wait(x)
    rows = [i.new_empty(_half(i), dtype=torch.int64) if _is_mask(i) else i for i in indices]
    return A.index.Tensor(x, rows)


def _index_put(
    counts: Counts,
    x: Tensor,
    indices: list[Tensor | None],
    values: Tensor,
    accumulate: bool = False,
) -> Any:
    if not any(_is_mask(i) for i in indices):
        return NotImplemented
    # torch makes masked_fill_ of it if it can, which need not know how many rows there are.
    if len(indices) > 1 or accumulate or values.numel() > 1 or values.is_cuda:
        counts.wait(x)
    return x


def _lstsq(counts: Counts, a: Tensor, b: Tensor, *options: Any, **more: Any) -> tuple[Tensor, ...]:
    counts.wait(a)  # for the rank
    rank, none = torch.empty((), dtype=torch.int64, device="cpu"), a.new_empty(0)
    return a.new_empty(a.shape[-1], b.shape[-1]), a.new_empty(b.shape[-1]), rank, none


def _check_errors(counts: Counts, info: Tensor, *rest: Any, **more: Any) -> None:
    counts.wait(info)


def _is_mask(i: Tensor | None) -> TypeGuard[Tensor]:
    return i is not None and i.dtype in (torch.bool, torch.uint8)


def _half(x: Tensor) -> int:
    return max(1, x.numel() // 2)


ANSWERS = {
    A._local_scalar_dense: _scalar,
    A.nonzero: _nonzero,
    A._unique2: _unique,
    A.masked_select: _masked_select,
    A.index: _index,
    A.index_put_: _index_put,
    A.linalg_lstsq: _lstsq,
    A._linalg_check_errors: _check_errors,
}
"""All numbers are 1, all checks pass, and half of all rows are chosen. Each answer costs a wait."""
