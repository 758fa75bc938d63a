"""Scenes that can be turned: photographed beforehand from all around, by our own rasterizer.

So a page shows exactly what was trained, the same in every browser, and needs no WebGL. All scenes
of all pages are seen by the same cameras.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from esd_splat.scene.cameras import Orbit
from esd_splat.scene.gaussians import Gaussians
from esd_splat.scene.rasterize import rasterize, resolve_backend
from esd_splat.show.images import to_webp
from esd_splat.show.pages.html import data_url

AZIMUTHS = 40
"""Frames of a turn, nine degrees apart; the first is the front."""
ELEVATIONS = (15.0, 45.0)
"""Degrees above the horizon, a turn each."""
CAMERAS = Orbit(size=384)
"""The default cameras see the unit ball whole."""
QUALITY = 90
"""Of the frames as WebP: a figurine's then have five kilobytes each."""

Frames = list[str]
"""Addresses of a scene's pictures: of the first elevation by azimuth, then of the next."""


@torch.no_grad()
def photograph(scene: Gaussians) -> Frames:
    """The scene over white, ``AZIMUTHS`` times at each of ``ELEVATIONS``.

    On the CPU: it takes seconds, and whether a GPU is free, or has its kernels, does not matter.
    """
    scene, backend = scene.map(lambda value: value.cpu()), resolve_backend("auto", "cpu")
    frames = []
    for elevation in ELEVATIONS:
        cameras = CAMERAS.turntable(AZIMUTHS, elevation)
        for one in torch.arange(AZIMUTHS).split(1):  # one at a time, for the memory's sake
            image = rasterize(scene, cameras[one], torch.ones(1, 3), backend).images
            frames += [data_url(data, "image/webp") for data in to_webp(image, QUALITY)]
    return frames


@dataclass(frozen=True)
class Scenes:
    """The scenes of a page, which are all turned together."""

    orbits: Sequence[Frames]
    """The frames of each scene."""
    fronts_deg: Sequence[float | None] = ()
    """The azimuth that the front of each scene faces, where it is known."""
    azimuths: ClassVar = AZIMUTHS
    elevations: ClassVar = ELEVATIONS
    cameras: ClassVar = CAMERAS

    @property
    def fronts(self) -> list[int]:
        """How many frames each scene is to be turned by, so that all scenes face the same way."""
        return [round((front or 0) / 360 * AZIMUTHS) % AZIMUTHS for front in self.fronts_deg]
