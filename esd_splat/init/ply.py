"""An initialiser that loads a ``.ply`` file."""

import math

import torch
from typing_extensions import override

from esd_splat.errors import SceneError, refuse
from esd_splat.files import expanded
from esd_splat.formats import load_ply
from esd_splat.init.base import Initialiser
from esd_splat.scene.gaussians import Gaussians
from esd_splat.settings.schema import Field, section


@section
class FromPly(Initialiser):
    """The Gaussians of a .ply file: the scene.ply of an earlier run, or one from another tool."""

    path: str = ""
    """Path of the .ply file to start from, with y pointing down as in viewers. It is required."""
    fit: bool = False
    """Whether to move and scale the scene so that it fills the ball of radius."""
    radius: float = Field(default=0.8, gt=0, le=1)
    """Distance of the farthest Gaussian from the origin if fit is true, in world units."""

    def __post_init__(self) -> None:
        refuse([] if self.path else ["path: is required; give the .ply file to start from"])

    @override
    def check(self) -> None:
        self.build(torch.Generator())

    @override
    def build(self, generator: torch.Generator) -> Gaussians:
        """Load the scene. ``generator`` is not used.

        Raises:
            SceneError: the file cannot be loaded (see ``load_ply``), or ``fit`` is false and more
                than half of the Gaussians lie outside the unit ball, where cameras may be.
        """
        scene = load_ply(expanded(self.path))
        if self.fit:
            return _fitted(scene, self.radius)
        outside = int((scene.means.norm(dim=1) > 1).sum())
        if 2 * outside > len(scene):
            raise SceneError(
                f"{self.path}: {outside} of {len(scene)} Gaussians lie outside the unit ball; "
                "set init.fit=true to move and scale the scene into it"
            )
        return scene


def _fitted(scene: Gaussians, radius: float) -> Gaussians:
    """Centre the scene by its bounding box and scale it, together with its Gaussians."""
    means = scene.means - (scene.means.amin(dim=0) + scene.means.amax(dim=0)) / 2
    extent = float(means.norm(dim=1).max())
    factor = radius / extent if extent > 0 else 1.0
    changed = {"means": factor * means, "log_scales": scene.log_scales + math.log(factor)}
    return Gaussians(**{**vars(scene), **changed})
