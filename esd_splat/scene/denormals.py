"""How the CPU does arithmetic while we use it. Knows its flags; not what is computed."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Faint splats are full of them, and a CPU stumbles over each. The caller's come back after."""
    before = sys.float_info.min / 2 == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
