"""A GPU that is not there: fake CUDA tensors, and what torch and gsplat lack without one."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any
from unittest import mock

import torch
import torch._dynamo  # the first fake operator would import it, and fail inside of the mode
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from esd_splat.plan.operators import gpu_attention
from tests.fakegpu import gsplat_kernels
from tests.fakegpu.counts import Counts
from tests.fakegpu.guard import guard
from tests.fakegpu.watch import Watch

CUDA = torch.device("cuda:0")
TOGETHER = 2
"""How many views a multi-view network sees together: the only list of whole numbers in a step."""
_real_attention = F.scaled_dot_product_attention
_optimizer = sys.modules[torch.optim.Optimizer.__module__]


@contextmanager
def fake_gpu() -> Iterator[Counts]:
    """While open, tensors have no data, and what happens on ``cuda:0`` is counted."""
    watch = Watch()
    with ExitStack() as stack:
        stack.enter_context(guard())
        for owner, name, stand_in in (
            (nn.Module, "_apply", _apply),
            (F, "scaled_dot_product_attention", attention),
            (FakeTensor, "tolist", lambda x: _tolist(watch.counts, x)),
            # Adam updates all parameters together, as it does on CUDA.
            (_optimizer, "_foreach_supported_types", [Tensor, nn.Parameter, FakeTensor]),
        ):
            stack.enter_context(mock.patch.object(owner, name, stand_in))
        compiled = gsplat_kernels.module(watch.counts)
        stack.enter_context(mock.patch.dict(sys.modules, {"gsplat.cuda._backend": compiled}))
        stack.enter_context(_mode())
        stack.enter_context(watch)
        yield watch.counts


@cache
def _mode() -> FakeTensorMode:
    return FakeTensorMode(allow_non_fake_inputs=True)  # always the same, so that weights can stay


def _tolist(counts: Counts, x: Tensor) -> list[float] | list[int]:
    counts.wait(x)
    return [1.0] * x.numel() if x.is_floating_point() else [TOGETHER] * x.numel()


def _apply(self: nn.Module, fn: Any, recurse: bool = True) -> nn.Module:
    """``Module._apply`` with new parameters, as torch cannot exchange the contents of fake ones."""
    for module in self.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                with torch.no_grad():
                    new = fn(parameter)
                if new is not parameter:
                    new = nn.Parameter(new.detach(), parameter.requires_grad)
                module._parameters[name] = new
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = fn(buffer)
    return self


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """``scaled_dot_product_attention`` by the kernel that CUDA would choose.

    A build of torch without CUDA would choose the one that writes down all attention weights.
    """
    if not query.is_cuda:
        return _real_attention(query, key, value, attn_mask, dropout_p, is_causal, scale=scale)
    assert dropout_p == 0
    assert not enable_gqa
    return gpu_attention(query, key, value, attn_mask, is_causal, scale)
