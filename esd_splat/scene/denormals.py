"""Flushing denormal numbers to zero on the CPU."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Flush denormal numbers to zero inside the context, then restore the caller's setting.

    Faint splats produce many denormals, and CPU arithmetic with them is slow.
    """
    before = sys.float_info.min / 2 == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
