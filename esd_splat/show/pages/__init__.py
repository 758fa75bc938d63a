"""What the pages about runs have in common: what a folder holds, and how it is shown offline.

A page is one file that asks no network for anything, so it can be mailed, and opened years later.
"""

from esd_splat.show.pages.curves import curves
from esd_splat.show.pages.html import NOTHING, Media, moving_picture, page, picture, value
from esd_splat.show.pages.orbit import AZIMUTHS, ELEVATIONS, Frames, Scenes, photograph
from esd_splat.show.pages.run import Run, read_run, read_scene

__all__ = [
    "AZIMUTHS",
    "ELEVATIONS",
    "NOTHING",
    "Frames",
    "Media",
    "Run",
    "Scenes",
    "curves",
    "moving_picture",
    "page",
    "photograph",
    "picture",
    "read_run",
    "read_scene",
    "value",
]
