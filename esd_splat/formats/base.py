"""What every exporter offers. Knows scenes and paths; nothing of training."""

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
    """A file format for a finished scene; its fields are the choices that the format leaves."""

    suffix: ClassVar[str]
    """Of the files it writes, with the dot."""
    most: ClassVar[float] = math.inf
    """Gaussians that a file holds, or that its readers take."""

    def write(self, gaussians: Gaussians, path: Path | str, comment: str = "") -> None:
        """Write the scene to ``path``, whole or not at all.

        Args:
            gaussians: at least one, all values finite; other float types are rounded to float32.
            path: replaced if it exists, and only once the new file is whole.
            comment: kept in the file where the format has a place for it; the first line says
                what the scene is.

        Raises:
            SceneError: there is no Gaussian, or more than the format holds, or some hold NaN,
                infinity or a zero quaternion, or what the format has no number for.
            OutputError: the file cannot be written.
        """
        if len(gaussians) > self.most:
            raise SceneError(
                f"{path}: not written, as a {self.suffix} file holds at most {self.most:.0f} "
                f"Gaussians, and the scene has {len(gaussians)}; keep fewer, or choose .ply"
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
        """The content of a file.

        Args:
            scene: as ``to_file_frame`` gives it, float32, checked by ``check_values``.
            comment: as in ``write``.

        Raises:
            SceneError: the format has no number for some value. Names no path.
        """

    def order(self, scene: Gaussians) -> Int[Tensor, " n"]:
        """Which row of ``scene``, as ``encode`` is given it, becomes each row of the file."""
        return torch.arange(len(scene))


def check_values(scene: Gaussians) -> None:
    """Refuse what cannot be drawn.

    Raises:
        SceneError: there is no Gaussian, or some hold NaN, infinity or a zero quaternion.
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
