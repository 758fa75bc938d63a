"""Export of a scene as one web page. It opens from a disk without a network, also on a phone.

The page is ``viewer/page.html.j2``. Its script ``viewer.js`` is built from ``main.mjs`` and the
SuperSplat viewer on the PlayCanvas engine, whose licences are in ``LICENSES.txt``.
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
"""Colour behind the scene and the caption, 8-bit RGB. It is dark, so that stray edges show."""
FOV_DEG = 40.0
"""Field of view across the shorter side of the window, the same as scenes are optimized with."""
ELEVATION_DEG = 10.0
"""Elevation of the first view and of the turntable above the horizon."""
ROOM = 1.06
"""Margin around the scene: camera distance relative to the one at which the scene just fits."""
STRAYS = 0.02
"""Fraction of the Gaussians, the outermost ones, that may lie outside of the picture."""

DATA = Sog()
"""Format of the scene in the page. It is the smallest one that the viewer reads, and keeps every
degree of the spherical harmonics."""

_PARTS = Path(__file__).parent / "viewer"


@dataclass(frozen=True)
class Html(Exporter):
    """A self-contained page that shows the scene in a browser, to be turned by mouse or touch.

    It opens on the front of the scene, on a turntable. The caption shows the first line of the
    comment as the title, then the number of Gaussians, the SH degree and the other lines of the
    comment. The page takes 2.1 MB plus the scene.
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
    """Place the camera in front of the scene, far enough to see all of it, in the viewer's axes.

    In these, y points up and the front is at -z: they are a file's axes, turned by 180 degrees
    about z.
    """
    means = scene.means.double().numpy() * np.array([-1, -1, 1])
    center = np.quantile(means, (STRAYS / 2, 1 - STRAYS / 2), axis=0).mean(axis=0)
    radii = scene.log_scales.clamp(max=MAX_LOG_SCALE).exp().amax(dim=1).double().numpy()
    reach = np.linalg.norm(means - center, axis=1) + 2 * radii
    elevation = math.radians(ELEVATION_DEG)
    distance = ROOM * np.quantile(reach, 1 - STRAYS) / math.sin(math.radians(FOV_DEG / 2))
    eye = center + distance * np.array([0, math.sin(elevation), -math.cos(elevation)])
    return {"position": eye.tolist(), "target": center.tolist(), "fov": FOV_DEG}
