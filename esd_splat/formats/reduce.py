"""Which Gaussians of a scene to keep. Each rule answers with a mask; nothing is changed here."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from esd_splat.scene.cameras import Orbit
from esd_splat.scene.gaussians import Gaussians
from esd_splat.scene.rasterize import contributions

RINGS = (-45.0, 0.0, 45.0)
"""Elevations, degrees, that a scene is looked at from to see which Gaussians matter."""
VIEWS = 8
"""Of each ring."""
SIZE = 256
"""Of those views, pixels."""
CORE = 0.95
"""Share of the Gaussians that the views are centred on and fit; floaters are outside."""


def within(scene: Gaussians, radius: float) -> Bool[Tensor, " n"]:
    """Those whose centre is at most ``radius`` world units from the origin."""
    return scene.means.norm(dim=1) <= radius


def visible(scene: Gaussians, opacity: float) -> Bool[Tensor, " n"]:
    """Those at least so opaque, in [0, 1], at their centre."""
    return scene.opacities >= opacity


def most_important(scene: Gaussians, count: int) -> Bool[Tensor, " n"]:
    """The ``count`` with the most ``importance``; of equal ones the first."""
    order = importance(scene).argsort(descending=True, stable=True)
    kept = torch.zeros(len(scene), dtype=torch.bool)
    kept[order[:count]] = True
    return kept


def importance(scene: Gaussians) -> Float[Tensor, " n"]:
    """Light that each Gaussian sends to the pixels of views from all around.

    Whatever its units and place, the scene is looked at as an object that fills the unit ball: what
    was recorded from inside, as rooms are, is not judged well.
    """
    centre = scene.means.median(dim=0).values
    means = scene.means - centre
    radius = means.norm(dim=1).sort().values[int(CORE * (len(scene) - 1))].clamp(min=1e-9)
    fitted = {"means": means / radius, "log_scales": scene.log_scales - radius.log()}
    scene = Gaussians(**vars(scene) | fitted)
    rings = [Orbit().turntable(VIEWS, elevation, SIZE) for elevation in RINGS]
    return torch.stack([contributions(scene, ring, "auto") for ring in rings]).sum(dim=0)
