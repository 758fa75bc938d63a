"""The door to the compiled kernels, ``torch.ops.esd_splat``. Knows whether they are there."""

import importlib
from typing import Any

import torch

BUILD = "pip install --no-build-isolation -e ."
"""The command that compiles them, in a checkout."""


def _load() -> str:
    """What keeps the extension from loading; empty when nothing does."""
    try:
        importlib.import_module("esd_splat._C")
    except ImportError as error:
        return str(error)
    return ""


MISSING = _load()
"""Why there are no compiled kernels, or empty."""

ops: Any = torch.ops.esd_splat
"""The operators. Using one while ``MISSING`` raises an ``AttributeError``."""
