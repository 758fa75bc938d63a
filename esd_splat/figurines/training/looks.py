"""What a photograph of a figurine shows, by template matching: its kind, colour and azimuth."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from esd_splat.figurines import COLOURS, KINDS
from esd_splat.figurines.templates import make_templates
from esd_splat.scene.cameras import Orbit
from esd_splat.types import Images

AZIMUTH_STEP = 10
"""Degrees between templates. No template lies on a border between views, or on one of the pose
histogram, which would favour a side."""
ELEVATIONS = 3
"""Templates over the orbit's range of elevations, each in the middle of its part."""
SIZE = 32
"""Pixels; what is smaller than two pixels of a 64 x 64 photograph tells noise, not figurines."""
BORDER = 2
"""Pixels at the rim that figurines hardly reach: their median is the background."""


@dataclass(frozen=True)
class Looks:
    """What each of some images is nearest to."""

    kinds: Int[Tensor, " n"]
    """Index into ``KINDS``."""
    colours: Int[Tensor, " n"]
    """Index into ``COLOURS``."""
    azimuth_deg: Float[Tensor, " n"]
    """In [-180, 180)."""
    distance: Float[Tensor, " n"]
    """Mean squared difference to that template."""


class Looker:
    """Knows every figurine from every side, over any plain background."""

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
        """Compare each image, over the background its border shows, with every template."""
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
    """The median, per channel, of the pixels at the rim."""
    inner = torch.zeros(images.shape[-2:], dtype=torch.bool, device=images.device)
    inner[BORDER:-BORDER, BORDER:-BORDER] = True
    return images[..., ~inner].median(-1).values
