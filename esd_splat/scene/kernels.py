"""The door to the compiled kernels, ``torch.ops.esd_splat``. Knows whether they are there."""

import importlib
from collections.abc import Callable
from typing import Any

import torch


def _load() -> str:
    """What keeps the extension from loading; empty when nothing does."""
    try:
        importlib.import_module("esd_splat._C")
    except ImportError as error:
        return str(error)
    return ""


MISSING = _load()
"""Why there are no compiled kernels, or empty."""
COMPILE = "compile them with `pip install --no-build-isolation .` in a checkout"
"""What to do about it."""


def has(operator: str, tensor: torch.Tensor) -> bool:
    """Whether ``operator`` was compiled for the device of ``tensor``."""
    key = "CUDA" if tensor.is_cuda else "CPU"
    return not MISSING and torch._C._dispatch_has_kernel_for_dispatch_key(
        f"esd_splat::{operator}", key
    )


def fake(operator: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorates what ``operator`` does to shapes alone, for tensors without data."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        if not MISSING:
            torch.library.register_fake(f"esd_splat::{operator}")(function)
        return function

    return register


ops: Any = torch.ops.esd_splat
"""The operators. Asking for one while there are no kernels is an ``AttributeError``."""
