"""The memory and the arithmetic of a step on a GPU, predicted without a GPU and without weights."""

from esd_splat.plan.cli import main

__all__ = ["main"]
