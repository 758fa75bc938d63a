"""Access to the compiled kernels, the operators in ``torch.ops.esd_splat``, if they were built."""

import functools
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def _load() -> str:
    """Load the extension. Return the reason if that fails, and an empty string otherwise."""
    try:
        importlib.import_module("esd_splat._C")
    except ImportError as error:
        return f"{error}; {said}" if (said := _left_out("cpu")) else str(error)
    return ""


def _left_out(kind: str) -> str:
    """Return why the build left out the kernels for ``cpu`` or ``cuda``, if it noted that."""
    try:
        return json.loads((Path(__file__).parents[1] / "_C.json").read_text("utf-8")).get(kind, "")
    except (OSError, ValueError, AttributeError):  # an older build wrote no note
        return ""


MISSING = _load()
"""The reason why there are no compiled kernels, or an empty string if there are."""
_BUILD = "`ESD_SPLAT_BUILD={} pip install -v --no-build-isolation .` in a checkout"
COMPILE = f"compile them with {_BUILD.format('cpu')}"
"""How to get the kernels, or the compiler's reason, as part of a message."""
COMPILE_CUDA = f"compile them with {_BUILD.format('cuda')}"
"""The same for the kernels for CUDA."""


def has(operator: str, tensor: torch.Tensor) -> bool:
    """Return whether ``operator`` was compiled for the device of ``tensor``, and runs there."""
    if tensor.device.type not in ("cpu", "cuda"):
        return False
    return _compiled(operator, tensor.device.type) and not (tensor.is_cuda and _refused())


def missing_on_cuda() -> str:
    """Return the reason why our kernels do not run on CUDA, or an empty string if they do."""
    if not _compiled("observe", "cuda"):
        return MISSING or _left_out("cuda") or "they were compiled without CUDA"
    return _refused()


def _refused() -> str:
    # Without a GPU, tensors on CUDA have no data, and only shapes are computed.
    return _fails_on_cuda() if torch.cuda.is_available() else ""


def _compiled(operator: str, device_type: str) -> bool:
    find = torch._C._dispatch_has_kernel_for_dispatch_key
    return not MISSING and find(f"esd_splat::{operator}", device_type.upper())


@functools.cache
def _fails_on_cuda() -> str:
    """Run the smallest kernel on CUDA. Return the reason if it fails, else an empty string.

    It fails if a newer toolkit than the driver compiled it, or for other cards than this one.
    """
    try:
        gradient = torch.zeros(1, dtype=torch.float64, device="cuda")
        seen = torch.zeros(1, dtype=torch.int32, device="cuda")
        shown = torch.ones(1, 1, dtype=torch.bool, device="cuda")
        ops.observe(gradient, seen, torch.ones(1, 1, 2, device="cuda"), shown)
        return "" if seen.item() == 1 else "a test of them gives a wrong result"
    except RuntimeError as error:
        return str(error).partition("\n")[0]


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
