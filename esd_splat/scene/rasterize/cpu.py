"""The CPU rasterizer, which draws all views in one call of the kernels in ``cuda_ext/cpu``."""

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

import esd_splat.scene.rasterize.operators  # noqa: F401  registers the gradients
from esd_splat.errors import BackendError
from esd_splat.scene import kernels
from esd_splat.scene.cameras import Cameras
from esd_splat.scene.gaussians import Gaussians
from esd_splat.scene.rasterize.base import Render, Surface, averages, replace_undrawable


def require_cpu(device_type: str) -> None:
    """Check that this backend can run for Gaussians on ``device_type``.

    Raises:
        BackendError: the kernels were not compiled, the Gaussians have no values (``meta``), or
            ``ESD_SPLAT_ISA`` names an instruction set that is not available.
    """
    if kernels.MISSING:
        raise BackendError(
            f"backend=cpu needs the compiled kernels; {kernels.COMPILE}, or choose "
            "backend=reference"
        )
    if device_type == "meta":  # there are no values that could be brought to the CPU
        raise BackendError(
            f"backend=cpu needs the CPU, and this run is on {device_type}; choose backend=auto"
        )
    if refused := _refused():
        raise BackendError(refused)


@cache
def _refused() -> str:
    """Draw one pixel, and return the error message if that fails, else an empty string."""
    none, pixel = torch.zeros(1, 0, 3), torch.zeros(1, 3)
    flat = none[..., :2].contiguous()
    try:
        kernels.ops.composite(
            flat, none, none, none[0, :, 0], flat, none[..., 0], pixel, 1, 1, False
        )
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return ""


def rasterize_cpu(
    gaussians: Gaussians,
    cameras: Cameras,
    background: Float[Tensor, "b 3"],
    surface: bool = False,
) -> Render:
    """Render as described in :func:`esd_splat.scene.rasterize.rasterize`.

    The kernels composite three colours at a time, so a surface takes two further passes.

    Gaussians, cameras and background may each be on any device. What belongs to the Gaussians
    (``means2d`` and ``visible``) is returned on their device, and what belongs to the pixels on the
    device of ``background``. Copies between devices are differentiable.

    The tensors may be float32, or float64 to check gradients. The bits of the images and of their
    gradients do not depend on the number of threads.

    Raises:
        BackendError: see ``require_cpu``.
    """
    home, away = gaussians.means.device, background.device
    require_cpu(home.type)
    gaussians, cameras = gaussians.map(Tensor.cpu), cameras.to("cpu")
    width, height, background = cameras.width, cameras.height, background.cpu()
    means2d, conics, colors, *rest, visible = kernels.ops.project(
        *(value.contiguous() for value in vars(gaussians).values()),
        cameras.viewmats.contiguous(),
        cameras.Ks.contiguous(),
        width,
        height,
    )
    # The images must depend on the tensor that the caller gets: its gradient is what densification
    # needs. On the CPU, these are the same tensors.
    means2d, visible = means2d.to(home), visible.to(home)
    centres = means2d.cpu()

    def composite(colors: Tensor, behind: Tensor, median: bool = False) -> tuple[Tensor, ...]:
        """Return images, alphas and, if asked for, median depths."""
        shown = centres, conics, colors.contiguous(), *rest, behind.contiguous()
        images, alphas, *_, medians = kernels.ops.composite(*shown, width, height, median)
        return images, alphas, medians

    images, alphas, _ = composite(colors, background)
    pixels = images.to(away), alphas.to(away)
    if not surface:
        return Render(*pixels, means2d, visible)
    safe, _ = replace_undrawable(gaussians)
    black = torch.zeros_like(background)
    z = cameras.viewmats[:, 2, :3] @ safe.means.mT + cameras.viewmats[:, 2, 3:]
    normals, *_ = composite(safe.normals(cameras.eyes), black)
    depths, _, medians = composite(torch.nn.functional.pad(z[..., None], (0, 2)), black, True)
    planes = averages(depths, alphas)[:, 0], medians, averages(normals, alphas)
    return Render(*pixels, means2d, visible, Surface(*(plane.to(away) for plane in planes)))
