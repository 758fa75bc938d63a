"""What a bug report needs to say about a machine, and what is missing there for a run."""

from esd_splat.doctor.cli import main

__all__ = ["main"]
