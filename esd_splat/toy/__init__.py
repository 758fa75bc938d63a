"""Score distillation where every score is known exactly: a Gaussian fitted to a Gaussian."""

from esd_splat.toy.cli import main

__all__ = ["main"]
