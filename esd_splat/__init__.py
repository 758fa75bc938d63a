"""Text-to-3D by entropic score distillation onto Gaussian splats.

Conventions, stated once; every module inherits them.

- World: right-handed, +y up; the object stands at the origin, inside the unit ball. Azimuth 0
  looks at it from +z ("front"), azimuth 90 degrees from +x; elevation is positive upwards.
- Cameras: OpenCV axes (+x right, +y down, +z into the scene). ``viewmats`` are world-to-camera,
  ``Ks`` in pixels.
- Gaussians store *pre-activation* values: ``means``, ``quats`` (``wxyz``, normalized by the
  rasterizer), ``log_scales``, ``opacity_logits``, ``sh0`` and ``shN`` (degree 0 to 3; colour is
  ``max(0, 0.5 + sum_k c_k Y_k(d))`` with the basis signs of 3DGS and ``d`` from the camera's
  centre to the mean, display-referred RGB, clamped above only when written to 8 bits).
- Images are ``[b, 3, h, w]``, float, in ``[0, 1]``. Latents are ``[b, c, h/f, w/f]``.
- ``noise`` is what was drawn; ``eps`` is what a network predicted; ``score = -eps / sigma``.
- Angles are degrees in configs and on screen, radians in code. Lengths are world units.

Importing the package loads nothing heavy: each public name is loaded when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from esd_splat.config import load_config
    from esd_splat.distill.losses import Esd, Sds, Vsd
    from esd_splat.fit import fit
    from esd_splat.formats import load_ply, load_scene, save_ply
    from esd_splat.scene.cameras import Orbit
    from esd_splat.scene.gaussians import Gaussians
    from esd_splat.scene.rasterize import rasterize

__version__ = "0.1.0"

__all__ = [
    "Esd",
    "Gaussians",
    "Orbit",
    "Sds",
    "Vsd",
    "fit",
    "load_config",
    "load_ply",
    "load_scene",
    "rasterize",
    "save_ply",
]

_MODULES = {
    "Esd": "distill.losses",
    "Gaussians": "scene.gaussians",
    "Orbit": "scene.cameras",
    "Sds": "distill.losses",
    "Vsd": "distill.losses",
    "load_config": "config",
    "load_ply": "formats",
    "load_scene": "formats",
    "rasterize": "scene.rasterize",
    "save_ply": "formats",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"esd_splat.{_MODULES[name]}"), name)
    if name == "fit":  # the module, which can be called as its function
        return import_module("esd_splat.fit")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
