"""What finished scenes show, measured after the runs: by a judge where the truth is not known."""

from esd_splat.evaluate.cli import main

__all__ = ["main"]
