"""The interface of all exporters. It knows about scenes and paths, and nothing about training."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from esd_splat.errors import SceneError
from esd_splat.files import atomic_path
from esd_splat.formats.frame import to_file_frame
from esd_splat.scene.gaussians import Gaussians


@dataclass(frozen=True)
class Exporter(ABC):
    """A file format for a finished scene. Its fields are the options of the format."""

    suffix: ClassVar[str]
    """The suffix of the files it writes, including the dot."""
    most: ClassVar[float] = math.inf
    """The largest number of Gaussians that a file can hold or that its readers accept."""

    def write(self, gaussians: Gaussians, path: Path | str, comment: str = "") -> None:
        """Write the scene to ``path``, either completely or not at all.

        Args:
            gaussians: at least one Gaussian, with finite values. Other float types are rounded
                to float32.
            path: an existing file is replaced, but only once the new file is complete.
            comment: stored in the file if the format has a place for it. Its first line says
                what the scene shows.

        Raises:
            SceneError: the scene has no Gaussians or more than the format can hold, or some of
                them hold NaN, infinity, a zero quaternion, or values that the format cannot
                represent.
            OutputError: the file cannot be written.
        """
        if len(gaussians) > self.most:
            raise SceneError(
                f"{path}: not written: a {self.suffix} file holds at most {self.most:.0f} "
                f"Gaussians, but the scene has {len(gaussians)}; keep fewer, or choose .ply"
            )
        scene = gaussians.map(lambda value: value.detach().cpu().float())
        try:
            check_values(scene)
            content = self.encode(to_file_frame(scene), comment)
        except SceneError as error:
            raise SceneError(f"{path}: not written: {error}") from error
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)

    @abstractmethod
    def encode(self, scene: Gaussians, comment: str = "") -> bytes:
        """Return the content of the file.

        Args:
            scene: in float32, in the frame of ``to_file_frame``, and checked by ``check_values``.
            comment: see ``write``.

        Raises:
            SceneError: the format cannot represent some value. The message names no path.
        """

    def order(self, scene: Gaussians) -> Int[Tensor, " n"]:
        """Return the index into ``scene``, the argument of ``encode``, for each row of the file."""
        return torch.arange(len(scene))


def check_values(scene: Gaussians) -> None:
    """Refuse a scene that cannot be drawn.

    Raises:
        SceneError: the scene has no Gaussians, or some hold NaN, infinity or a zero quaternion.
    """
    count = len(scene)
    if count == 0:
        raise SceneError("the scene has no Gaussians")
    finite = [value.isfinite().reshape(count, -1).all(dim=1) for value in vars(scene).values()]
    broken = ~torch.stack(finite).all(dim=0) | ~scene.quats.any(dim=1)
    if broken.any():
        raise SceneError(
            f"{int(broken.sum())} of {count} Gaussians hold NaN, infinity or a zero quaternion "
            f"(the first is row {int(broken.int().argmax())}); remove them"
        )
