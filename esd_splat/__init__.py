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

import sys
from importlib import import_module
from types import ModuleType
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


_CALLABLE = ("fit",)
"""Functions that have their module's name: whichever is imported first, both are reached by it."""


class _CallableModule(ModuleType):
    """A module that, when called, calls the function of its own name."""

    @property
    def __wrapped__(self) -> Any:
        """What it calls, and ``inspect.signature`` shows."""
        return getattr(self, self.__name__.rpartition(".")[2])

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__wrapped__(*args, **kwargs)

    def __reduce__(self) -> Any:
        return import_module, (self.__name__,)


class _Package(ModuleType):
    """Python sets a submodule as an attribute once it is loaded: the moment to make it callable."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _CALLABLE and type(value) is ModuleType:
            value.__class__ = _CallableModule
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"esd_splat.{_MODULES[name]}"), name)
    if name in _CALLABLE:
        return import_module(f"esd_splat.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
