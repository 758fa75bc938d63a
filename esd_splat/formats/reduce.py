"""Rules that select Gaussians to keep. Each returns a mask and leaves the scene unchanged."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from esd_splat.scene.cameras import Orbit
from esd_splat.scene.gaussians import Gaussians
from esd_splat.scene.rasterize import contributions

RINGS = (-45.0, 0.0, 45.0)
"""Elevations, in degrees, of the views that decide which Gaussians matter."""
VIEWS = 8
"""The number of views on each ring."""
SIZE = 256
"""The width and height of these views in pixels."""
CORE = 0.95
"""The share of the Gaussians that the views are fitted to. Floaters are outside of it."""


def within(scene: Gaussians, radius: float) -> Bool[Tensor, " n"]:
    """Select the Gaussians whose mean is at most ``radius`` world units from the origin."""
    return scene.means.norm(dim=1) <= radius


def visible(scene: Gaussians, opacity: float) -> Bool[Tensor, " n"]:
    """Select the Gaussians whose opacity, in [0, 1], is at least ``opacity``."""
    return scene.opacities >= opacity


def most_important(scene: Gaussians, count: int) -> Bool[Tensor, " n"]:
    """Select the ``count`` Gaussians of highest ``importance``. Of equal ones, the first win."""
    order = importance(scene).argsort(descending=True, stable=True)
    kept = torch.zeros(len(scene), dtype=torch.bool)
    kept[order[:count]] = True
    return kept


def importance(scene: Gaussians) -> Float[Tensor, " n"]:
    """Return the light that each Gaussian contributes to the pixels of views from all around.

    The scene is first moved and scaled to fill the unit ball, like an object seen from outside.
    Scenes that were captured from inside, such as rooms, are not judged well.
    """
    centre = scene.means.median(dim=0).values
    means = scene.means - centre
    radius = means.norm(dim=1).sort().values[int(CORE * (len(scene) - 1))].clamp(min=1e-9)
    fitted = {"means": means / radius, "log_scales": scene.log_scales - radius.log()}
    scene = Gaussians(**vars(scene) | fitted)
    rings = [Orbit().turntable(VIEWS, elevation, SIZE) for elevation in RINGS]
    return torch.stack([contributions(scene, ring, "auto") for ring in rings]).sum(dim=0)
