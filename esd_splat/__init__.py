"""Text-to-3D by entropic score distillation onto Gaussian splats.

All modules follow these conventions:

- The world is right-handed with +y up. The object is at the origin, inside the unit ball. A camera
  at azimuth 0 is on the +z side ("front"), one at azimuth 90 degrees on the +x side. Positive
  elevation is upwards.
- Cameras have OpenCV axes (+x right, +y down, +z into the scene). ``viewmats`` are world-to-camera
  matrices, ``Ks`` are in pixels.
- Gaussians store values *before activation*: ``means``, ``quats`` (``wxyz``, normalized by the
  rasterizer), ``log_scales``, ``opacity_logits``, ``sh0`` and ``shN`` (degree 0 to 3). The colour
  is ``max(0, 0.5 + sum_k c_k Y_k(d))`` with the basis signs of 3DGS, where ``d`` points from the
  camera centre to the mean. It is display-referred RGB, and is clamped to 1 only when written to 8
  bits.
- Images are float tensors ``[b, 3, h, w]`` in ``[0, 1]``. Latents are ``[b, c, h/f, w/f]``.
- ``noise`` is the noise that was drawn, ``eps`` is a noise prediction, and
  ``score = -eps / sigma``.
- Angles are in degrees in configs and on screen, and in radians in code. Lengths are in world
  units.

Importing the package loads nothing heavy. Each public name is loaded when it is first used.
"""

import os
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

# libgomp reads this when torch is loaded. By itself, it lets a thread that waits for others spin
# 300000 times before it sleeps, and a run on cores that others use too takes many times as long.
if not os.environ.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}:
    os.environ["GOMP_SPINCOUNT"] = "10000"

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
    if name == "fit":  # the module itself, which can be called like its function
        return import_module("esd_splat.fit")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
