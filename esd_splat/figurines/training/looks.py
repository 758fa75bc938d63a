"""Template matching: the kind, colour and azimuth that a photograph of a figurine shows."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from esd_splat.figurines import COLOURS, KINDS
from esd_splat.figurines.templates import make_templates
from esd_splat.scene.cameras import Orbit
from esd_splat.types import Images

AZIMUTH_STEP = 10
"""Degrees between templates. No template lies on a border between view words or between bins of the
pose histogram, as this would favour one side."""
ELEVATIONS = 3
"""The number of elevations of templates, each in the middle of its part of the orbit's range."""
SIZE = 32
"""Width and height of templates in pixels. In a 64 x 64 photograph, finer detail is noise."""
BORDER = 2
"""Width in pixels of the border. Figurines hardly reach it, so its median is the background."""


@dataclass(frozen=True)
class Looks:
    """The nearest template of each image."""

    kinds: Int[Tensor, " n"]
    """Index into ``KINDS``."""
    colours: Int[Tensor, " n"]
    """Index into ``COLOURS``."""
    azimuth_deg: Float[Tensor, " n"]
    """In [-180, 180)."""
    distance: Float[Tensor, " n"]
    """The mean squared difference to the template."""


class Looker:
    """Recognises every figurine from every side, over any plain background."""

    def __init__(self, orbit: Orbit) -> None:
        low, high = orbit.elevation
        part = (high - low) / ELEVATIONS
        elevations = low + part * (torch.arange(ELEVATIONS) + 0.5)
        azimuths = torch.arange(-180.0, 180.0, AZIMUTH_STEP)
        self.azimuth_deg = azimuths.repeat(ELEVATIONS)
        cameras = orbit.at(self.azimuth_deg, elevations.repeat_interleave(len(azimuths)), SIZE)
        self.templates = make_templates(KINDS, cameras.viewmats, cameras.Ks, SIZE)

    @torch.no_grad()
    def look(self, images: Images) -> Looks:
        """Compare each image with every template over the background that its border shows."""
        parts = [self._look(some) for some in images.split(64)]
        return Looks(*(torch.cat(column) for column in zip(*parts, strict=True)))

    def _look(self, images: Images) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        small = torch.nn.functional.interpolate(images, (SIZE, SIZE), mode="area")
        distances = self.templates.distances(small, border_colour(images))
        best, index = distances.flatten(1).min(1)
        views = len(self.azimuth_deg)
        figurine = index // views
        turned = self.azimuth_deg[index % views]
        return figurine // len(COLOURS), figurine % len(COLOURS), turned, best


def border_colour(images: Images) -> Float[Tensor, "b 3"]:
    """Return the median of the pixels at the border, per channel."""
    inner = torch.zeros(images.shape[-2:], dtype=torch.bool, device=images.device)
    inner[BORDER:-BORDER, BORDER:-BORDER] = True
    return images[..., ~inner].median(-1).values
