"""What every exporter offers. Knows scenes and paths; nothing of training."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from esd_splat.gaussians import Gaussians


@dataclass(frozen=True)
class Exporter(ABC):
    """A file format for a finished scene; its fields are the choices that the format leaves."""

    suffix: ClassVar[str]
    """Of the files it writes, with the dot."""

    @abstractmethod
    def write(self, gaussians: Gaussians, path: Path | str, comment: str = "") -> None:
        """Write the scene to ``path``, whole or not at all.

        Args:
            gaussians: at least one.
            path: replaced if it exists.
            comment: kept in the file where the format has a place for it.

        Raises:
            OutputError: the file cannot be written.
        """
