"""The door to the compiled kernels, ``torch.ops.esd_splat``. Knows whether they are there."""

import importlib
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

ops: Any = torch.ops.esd_splat
"""The operators. Asking for one while there are no kernels is an ``AttributeError``."""
