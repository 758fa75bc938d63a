"""Rasterizers, which render images of Gaussians, and the choice between them."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from esd_splat.errors import BackendError
from esd_splat.scene import kernels
from esd_splat.scene.cameras import Cameras
from esd_splat.scene.gaussians import SH_C0, Gaussians
from esd_splat.scene.rasterize import gsplat_build
from esd_splat.scene.rasterize.base import Rasterizer, Render, Surface
from esd_splat.scene.rasterize.cpu import rasterize_cpu, require_cpu
from esd_splat.scene.rasterize.gsplat import rasterize_gsplat, require_gsplat
from esd_splat.scene.rasterize.gsplat_build import announced
from esd_splat.scene.rasterize.reference import rasterize_reference

RASTERIZERS: dict[str, Rasterizer] = {
    "cpu": rasterize_cpu,
    "gsplat": rasterize_gsplat,
    "reference": rasterize_reference,
}

__all__ = [
    "RASTERIZERS",
    "Rasterizer",
    "Render",
    "Surface",
    "contributions",
    "rasterize",
    "resolve_backend",
    "scene_device",
]


def rasterize(
    gaussians: Gaussians,
    cameras: Cameras,
    background: Float[Tensor, "b 3"],
    backend: str,
    surface: bool = False,
) -> Render:
    """Render ``gaussians`` from each of ``cameras``, front to back, over ``background``.

    The result is differentiable with respect to every Gaussian parameter and ``background``, but
    not with respect to the cameras. A Gaussian is drawn if its centre is more than 0.01 world units
    in front of the camera and all its values are finite. The tests require every backend to agree
    with ``reference`` within 1e-4 per channel, except for single pixels on the edge of the 1/255
    cut.

    Args:
        gaussians: any number of Gaussians, including none.
        cameras: cameras on the same device.
        background: RGB in [0, 1] for each view, visible where the Gaussians are not opaque, on the
            same device; with ``backend="cpu"`` on any, to which the images then go.
        backend: ``auto`` or a key of ``RASTERIZERS``, see ``resolve_backend``. There is no
            fallback: ``gsplat`` on a machine without CUDA is an error, not a slow run.
        surface: whether to render depths and normals too, as ``Render.surface``. It takes more
            time and memory, and the images may differ in rounding.

    Returns:
        A ``Render``. Its images are linear in the colours of the Gaussians, without gamma
        correction, and show the background where no Gaussian is drawn.

    Raises:
        BackendError: ``backend`` is unknown, or does not run on the device of the Gaussians.

    Example:
        >>> import torch
        >>> from esd_splat.scene.cameras import Orbit
        >>> shapes = [3], [4], [3], [], [1, 3], [0, 3]
        >>> empty = Gaussians(*(torch.empty(0, *shape) for shape in shapes))
        >>> cameras = Orbit(size=8).turntable(1)
        >>> red = torch.tensor([[1.0, 0.0, 0.0]])
        >>> rasterize(empty, cameras, red, "reference").images[0, :, 0, 0]
        tensor([1., 0., 0.])

    Source:
        Kerbl et al., arXiv:2308.04079. The constants and their origins are in ``base.py``.
    """
    resolved = resolve_backend(backend, gaussians.means.device.type)
    return RASTERIZERS[resolved](gaussians, cameras, background, surface)


def contributions(gaussians: Gaussians, cameras: Cameras, backend: str) -> Float[Tensor, " n"]:
    """Return the light that each Gaussian sends to the pixels of all ``cameras``.

    This is the sum of its weights over all pixels. A pixel is the sum of ``alpha_i T_i c_i``, so
    the weight ``alpha_i T_i`` is the derivative of the pixel with respect to the colour ``c_i``.
    """
    fixed = gaussians.map(Tensor.detach)
    sh0 = torch.zeros_like(fixed.sh0, requires_grad=True)
    grey = Gaussians(**vars(fixed) | {"sh0": sh0, "shN": sh0[:, :0]})
    with torch.enable_grad():
        images = rasterize(grey, cameras, sh0.new_zeros(len(cameras), 3), backend).images
        (grad,) = torch.autograd.grad(images[:, 0].sum(), sh0)
    return grad[:, 0, 0] / SH_C0


def resolve_backend(
    name: str, device_type: str, say: Callable[[str], None] = lambda line: None
) -> str:
    """Return the key of ``RASTERIZERS`` that ``name`` stands for with networks on ``device_type``.

    ``auto`` is ``gsplat`` on CUDA if its kernels load, or else our kernels on the CPU (``cpu``) if
    they are compiled, also for networks on a GPU, or else ``reference``.

    Args:
        name: ``auto``, or the backend that the user chose.
        device_type: a ``torch.device.type``, such as ``cpu`` or ``cuda``.
        say: is told, in a line each, why ``auto`` is not a faster backend, and of a build of
            gsplat, which may take twenty minutes.

    Raises:
        BackendError: the backend is unknown, does not run on ``device_type``, or cannot be loaded.
            The message names an alternative.

    Example:
        >>> resolve_backend("auto", "cuda"), resolve_backend("reference", "cpu")
        ('gsplat', 'reference')
    """
    if name not in ("auto", *RASTERIZERS):
        raise BackendError(f"backend={name} is not one of auto, {', '.join(sorted(RASTERIZERS))}")
    if name == "auto":
        return _fastest(device_type, say)
    if name == "gsplat":
        with announced(say):
            require_gsplat(device_type)
    if name == "cpu":
        require_cpu(device_type)
    return name


def _fastest(device_type: str, say: Callable[[str], None]) -> str:
    away = device_type != "cpu"
    why = f"gsplat draws on CUDA only, not on {device_type}"
    if device_type == "cuda":
        with announced(say):
            missing = gsplat_build.missing()
        if not missing:
            return "gsplat"
        why = f"gsplat cannot draw ({missing}; `esd-splat doctor` says how to get it)"
    if kernels.MISSING:
        slow = f"no compiled kernels ({kernels.MISSING}), so PyTorch draws, more slowly"
        say(f"{f'{why}, and there are ' if away else ''}{slow}; {kernels.COMPILE}")
        return "reference"
    require_cpu(device_type)
    if away:
        say(f"{why}, so our kernels draw on the CPU; the networks stay on {device_type}")
    return "cpu"


def scene_device(backend: str, device: torch.device) -> torch.device:
    """Return where a scene should be that ``backend`` draws for networks on ``device``.

    Our kernels draw and densify on the CPU. Only images and their gradients then go between the
    devices.
    """
    return torch.device("cpu") if backend == "cpu" else device
