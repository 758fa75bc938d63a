"""Scenes that can be turned: rendered beforehand from all around, by our own rasterizer.

A page therefore shows exactly what was trained, looks the same in every browser and needs no WebGL.
The cameras are the same for all scenes on all pages.
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
"""Number of frames of a turn, nine degrees apart. The first one shows the front."""
ELEVATIONS = (15.0, 45.0)
"""Elevation of each turn above the horizon, in degrees."""
CAMERAS = Orbit(size=384)
"""The default cameras see the whole unit ball."""
QUALITY = 90
"""WebP quality of the frames. At 90, each frame of a figurine takes five kilobytes."""

Frames = list[str]
"""Data URLs of a scene's pictures: all azimuths of the first elevation, then of the next."""


@torch.no_grad()
def photograph(scene: Gaussians) -> Frames:
    """Render the scene on white from ``AZIMUTHS`` azimuths at each of ``ELEVATIONS``.

    This runs on the CPU. It takes only seconds there, and needs neither a free GPU nor its kernels.
    """
    scene, backend = scene.map(lambda value: value.cpu()), resolve_backend("auto", "cpu")
    frames = []
    for elevation in ELEVATIONS:
        cameras = CAMERAS.turntable(AZIMUTHS, elevation)
        for one in torch.arange(AZIMUTHS).split(1):  # one at a time, to save memory
            image = rasterize(scene, cameras[one], torch.ones(1, 3), backend).images
            frames += [data_url(data, "image/webp") for data in to_webp(image, QUALITY)]
    return frames


@dataclass(frozen=True)
class Scenes:
    """The scenes of a page, which all turn together."""

    orbits: Sequence[Frames]
    """The frames of each scene."""
    fronts_deg: Sequence[float | None] = ()
    """The azimuth that the front of each scene faces, or ``None`` if it is unknown."""
    azimuths: ClassVar = AZIMUTHS
    elevations: ClassVar = ELEVATIONS
    cameras: ClassVar = CAMERAS

    @property
    def fronts(self) -> list[int]:
        """The number of frames to turn each scene by, so that all scenes face the same way."""
        return [round((front or 0) / 360 * AZIMUTHS) % AZIMUTHS for front in self.fronts_deg]
