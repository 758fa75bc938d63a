"""The shared parts of the pages about runs: reading a run's folder, and showing it offline.

A page is one file that loads nothing over the network, so it can be mailed and opened years later.
"""

from esd_splat.show.pages.curves import curves
from esd_splat.show.pages.html import NOTHING, Media, moving_picture, page, picture, value
from esd_splat.show.pages.orbit import AZIMUTHS, ELEVATIONS, Frames, Scenes, photograph
from esd_splat.show.pages.run import Run, differing, read_run, read_runs, read_scene

__all__ = [
    "AZIMUTHS",
    "ELEVATIONS",
    "NOTHING",
    "Frames",
    "Media",
    "Run",
    "Scenes",
    "curves",
    "differing",
    "moving_picture",
    "page",
    "photograph",
    "picture",
    "read_run",
    "read_runs",
    "read_scene",
    "value",
]
