"""What PyTorch does on a GPU and not on ``meta``: attention that does not hold its weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from esd_splat.plan.tracker import Tracker

FLASH_WIDEST = 256
"""The widest head that flash attention takes; it takes half precision only."""
FLASH_STEP = 8
"""Flash attention takes heads whose width is a multiple of this; others are padded."""
aten = torch.ops.aten


_ATTENTION, _BACKWARD = F.scaled_dot_product_attention, Tensor.backward


@contextmanager
def as_on_gpu(tracker: Tracker) -> Iterator[None]:
    """While open, attention on ``meta`` is a GPU's, and backward passes are phases of ``tracker``.

    Without this, PyTorch would compute attention step by step, with all its weights in memory. A
    ``TorchFunctionMode`` would be off in backward passes, where checkpointing computes again.
    """
    F.scaled_dot_product_attention = attention
    Tensor.backward = tracker.phased("backward", _BACKWARD)
    try:
        yield
    finally:
        F.scaled_dot_product_attention = _ATTENTION
        Tensor.backward = _BACKWARD


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Return attention by the operators that a GPU has for it, as PyTorch chooses among them.

    In half precision that is flash attention, and else the memory-efficient one. Only a mask needs
    all the weights at once; the text encoders have one.
    """
    if attn_mask is not None or not q.is_meta:
        return _ATTENTION(
            *(q, k, v, attn_mask, dropout_p, is_causal), scale=scale, enable_gqa=enable_gqa
        )
    return gpu_attention(q, k, v, None, is_causal, scale)


def gpu_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None,
    is_causal: bool,
    scale: float | None,
) -> Tensor:
    """Return attention by the operator that PyTorch chooses on a GPU, on tensors without data."""
    width = q.shape[-1]
    scale = width**-0.5 if scale is None else scale
    half = q.dtype in (torch.float16, torch.bfloat16)
    if attn_mask is None and half and width <= FLASH_WIDEST:
        more = -width % FLASH_STEP
        q, k, v = (F.pad(x, (0, more)) if more else x for x in (q, k, v))
        out = aten._scaled_dot_product_flash_attention(q, k, v, 0.0, is_causal, scale=scale)[0]
        return out[..., :width]
    keeps = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
    return aten._scaled_dot_product_efficient_attention(
        *(q, k, v, attn_mask, keeps, 0.0, is_causal), scale=scale
    )[0]
