"""A scene as one web page that shows it: opened from a disk, with no network, on a phone too.

The page is ``viewer/page.html.j2``. What runs in it, ``viewer.js``, is built from ``main.mjs`` and
the SuperSplat viewer on the PlayCanvas engine, whose licences stand in ``LICENSES.txt``.
"""

import base64
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from typing_extensions import override

from esd_splat.formats.base import Exporter
from esd_splat.formats.sog import Sog
from esd_splat.formats.splat import MAX_LOG_SCALE
from esd_splat.jinja import fill
from esd_splat.scene.gaussians import Gaussians

BACKGROUND = (24, 25, 28)
"""Behind the scene and the caption alike, 8-bit RGB: dark, so that an edge too many is seen."""
FOV_DEG = 40.0
"""Over the shorter side of the window: the field of view that scenes are made under."""
ELEVATION_DEG = 10.0
"""Of the first view and of the turntable, above the horizon."""
ROOM = 1.06
"""Around the scene: how much farther away the camera is than the whole scene takes."""
STRAYS = 0.02
"""Share of the Gaussians that may lie outside of the picture: the outermost ones."""

DATA = Sog()
"""How the scene lies in the page: the smallest that the viewer reads, and it keeps every degree."""

_PARTS = Path(__file__).parent / "viewer"


@dataclass(frozen=True)
class Html(Exporter):
    """A page that turns the scene in a browser, and needs nothing but itself.

    It opens with the front, on a turntable, for mouse and touch; the caption holds the first line
    of the comment as title, and numbers: of Gaussians, the degree of colours, the comment's other
    lines. 2.1 MB, and the scene.
    """

    suffix: ClassVar[str] = ".html"

    @override
    def encode(self, scene: Gaussians, comment: str = "") -> bytes:
        title, *numbers = comment.splitlines() or ["Gaussian splat"]
        count = "1 Gaussian" if len(scene) == 1 else f"{len(scene):,} Gaussians"
        degree = f"SH degree {scene.sh_degree}"
        shown = {
            "name": f"scene{DATA.suffix}",
            "data": base64.b64encode(DATA.encode(scene)).decode(),
            "camera": _camera(scene),
            "background": [level / 255 for level in BACKGROUND],
        }
        page = fill(
            _PARTS / "page.html.j2",
            title=title,
            numbers=[count, degree, *numbers],
            background="#{:02x}{:02x}{:02x}".format(*BACKGROUND),
            scene=shown,
            script=(_PARTS / "viewer.js").read_text(encoding="utf-8"),
        )
        return page.encode("utf-8", "replace")


def _camera(scene: Gaussians) -> dict[str, Any]:
    """In front of the scene, as far away as it takes to see it whole, in the viewer's world.

    That has y up and the front at -z: a file's axes, turned by 180 degrees about z.
    """
    means = scene.means.double().numpy() * np.array([-1, -1, 1])
    center = np.quantile(means, (STRAYS / 2, 1 - STRAYS / 2), axis=0).mean(axis=0)
    radii = scene.log_scales.clamp(max=MAX_LOG_SCALE).exp().amax(dim=1).double().numpy()
    reach = np.linalg.norm(means - center, axis=1) + 2 * radii
    elevation = math.radians(ELEVATION_DEG)
    distance = ROOM * np.quantile(reach, 1 - STRAYS) / math.sin(math.radians(FOV_DEG / 2))
    eye = center + distance * np.array([0, math.sin(elevation), -math.cos(elevation)])
    return {"position": eye.tolist(), "target": center.tolist(), "fov": FOV_DEG}
