"""Access to the compiled kernels, the operators in ``torch.ops.esd_splat``, if they were built."""

import importlib
from collections.abc import Callable
from typing import Any

import torch


def _load() -> str:
    """Load the extension. Return the reason if that fails, and an empty string otherwise."""
    try:
        importlib.import_module("esd_splat._C")
    except ImportError as error:
        return str(error)
    return ""


MISSING = _load()
"""The reason why there are no compiled kernels, or an empty string if there are."""
COMPILE = "compile them with `pip install --no-build-isolation .` in a checkout"
"""How to get the kernels, as part of an error message."""


def has(operator: str, tensor: torch.Tensor) -> bool:
    """Return whether ``operator`` was compiled for the device of ``tensor``."""
    key = "CUDA" if tensor.is_cuda else "CPU"
    return not MISSING and torch._C._dispatch_has_kernel_for_dispatch_key(
        f"esd_splat::{operator}", key
    )


def fake(operator: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that registers a function as the fake implementation of ``operator``.

    A fake implementation computes the shapes of the results for tensors without data. Nothing is
    registered if there are no compiled kernels.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        if not MISSING:
            torch.library.register_fake(f"esd_splat::{operator}")(function)
        return function

    return register


ops: Any = torch.ops.esd_splat
"""The operators. Accessing one raises an ``AttributeError`` if there are no kernels."""
