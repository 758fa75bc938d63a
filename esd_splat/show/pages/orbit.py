"""Scenes that can be turned: photographed beforehand from all around, by our own rasterizer.

So a page shows exactly what was trained, the same in every browser, and needs no WebGL. All scenes
of all pages are seen by the same cameras.
"""

import json
from collections.abc import Sequence
from html import escape

import torch

from esd_splat.scene.cameras import Orbit
from esd_splat.scene.gaussians import Gaussians
from esd_splat.scene.rasterize import rasterize, resolve_backend
from esd_splat.show.images import to_webp
from esd_splat.show.pages.html import data_url, part

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


def stage(frames: Frames, orbit: int, says: str) -> str:
    """The picture that ``controls`` turns; the front view where there is no JavaScript.

    Args:
        frames: of the scene.
        orbit: its place among those that ``controls`` is given.
        says: what is seen, for those who cannot see it.
    """
    size = f'width="{CAMERAS.size}" height="{CAMERAS.size}"'
    marks = f'class="scene" data-orbit="{orbit}" tabindex="0" draggable="false" {size}'
    return f'<img {marks} alt="{escape(says)}" src="{frames[0]}">'


def view(frames: Frames, orbit: int, turn: int) -> str:
    """A picture that stays at its azimuth, ``turn`` frames from the front."""
    marks = f'class="view" data-orbit="{orbit}" data-turn="{turn}"'
    return f'<img {marks} alt="" src="{frames[turn]}">'


def controls(orbits: Sequence[Frames], fronts: Sequence[float | None] = ()) -> str:
    """What turns all scenes of the page together: sliders, drags and arrow keys.

    Args:
        orbits: of the page's stages, after which this is to stand, once in a page.
        fronts: azimuth that each scene's front faces, degrees, where it is known: the reader can
            choose to have the scenes turned by it, to face the same way.
    """
    known = [round((front or 0) / 360 * AZIMUTHS) % AZIMUTHS for front in fronts]
    data = {"elevations": ELEVATIONS, "azimuths": AZIMUTHS, "fronts": known, "orbits": orbits}
    inputs = [
        f'<label>{name} <input type="range" autocomplete="off" min="0" max="{count - 1}" '
        f'value="0" name="{name}"><output></output></label>'
        for name, count in (("azimuth", AZIMUTHS), ("elevation", len(ELEVATIONS)))
    ]
    if any(known):
        box = '<input type="checkbox" autocomplete="off" name="align">'
        inputs.append(
            f'<label title="each turned by its rotation_deg">{box} fronts aligned</label>'
        )
    return (
        f'<form class="orbit">{"".join(inputs)}</form>\n'
        f'<script type="application/json" id="orbits">{json.dumps(data)}</script>\n'
        f"<script>\n{part('orbit.js')}</script>"
    )
