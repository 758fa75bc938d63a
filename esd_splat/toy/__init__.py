"""Score distillation with exactly known scores: a Gaussian is fitted to a Gaussian."""

from esd_splat.toy.cli import main

__all__ = ["main"]
