"""Views of a scene from all around: colours, depths and normals."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from esd_splat.run.measure.judges import normal_pictures
from esd_splat.run.measure.truth import BACKGROUND
from esd_splat.scene.cameras import Cameras
from esd_splat.scene.gaussians import Gaussians
from esd_splat.scene.rasterize import rasterize
from esd_splat.types import Images

SOLID = 0.95
"""The opacity of a pixel from which it has a depth. Below, the background shows through."""


@dataclass(frozen=True)
class Views:
    """The views of one scene, on the CPU."""

    cameras: Cameras
    images: Images
    """Colours in [0, 1] before a plain grey background."""
    normals: Images
    """What ``normal_pictures`` draws. No paint shows in them."""
    depths: Float[Tensor, "b h w"]
    """Median depths in world units, and 0 where less than ``SOLID`` is drawn. Expected depths would
    lie between two surfaces."""


@torch.no_grad()
def look(scene: Gaussians, cameras: Cameras, backend: str) -> Views:
    """Render ``scene`` from ``cameras``, which are on its device, one after the other."""
    grey = torch.full((1, 3), BACKGROUND, device=scene.means.device)
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for one in torch.arange(len(cameras)).split(1):
        render = rasterize(scene, cameras[one], grey, backend, surface=True)
        surface = render.surface
        assert surface is not None
        depths = torch.where(render.alphas >= SOLID, surface.median_depths, 0)
        normals = normal_pictures(surface.normals, render.alphas)
        found.append((render.images.clamp(0, 1), normals, depths))
    images, normals, depths = (torch.cat(parts).cpu() for parts in zip(*found, strict=True))
    return Views(cameras.to("cpu"), images, normals, depths)
