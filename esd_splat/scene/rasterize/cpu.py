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
    """Check that this backend can run.

    Raises:
        BackendError: the kernels were not compiled, ``device_type`` is not ``cpu``, or
            ``ESD_SPLAT_ISA`` names an instruction set that is not available.
    """
    if kernels.MISSING:
        raise BackendError(
            f"backend=cpu needs the compiled kernels; {kernels.COMPILE}, or choose "
            "backend=reference"
        )
    if device_type != "cpu":
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

    The tensors may be float32, or float64 to check gradients. The bits of the images and of their
    gradients do not depend on the number of threads.

    Raises:
        BackendError: see ``require_cpu``.
    """
    require_cpu(gaussians.means.device.type)
    width, height = cameras.width, cameras.height
    means2d, conics, colors, *rest, visible = kernels.ops.project(
        *(value.contiguous() for value in vars(gaussians).values()),
        cameras.viewmats.contiguous(),
        cameras.Ks.contiguous(),
        width,
        height,
    )

    def composite(colors: Tensor, behind: Tensor, median: bool = False) -> tuple[Tensor, ...]:
        """Return images, alphas and, if asked for, median depths."""
        shown = means2d, conics, colors.contiguous(), *rest, behind.contiguous()
        images, alphas, *_, medians = kernels.ops.composite(*shown, width, height, median)
        return images, alphas, medians

    images, alphas, _ = composite(colors, background)
    if not surface:
        return Render(images, alphas, means2d, visible)
    safe, _ = replace_undrawable(gaussians)
    black = torch.zeros_like(background)
    z = cameras.viewmats[:, 2, :3] @ safe.means.mT + cameras.viewmats[:, 2, 3:]
    normals, *_ = composite(safe.normals(cameras.eyes), black)
    depths, _, medians = composite(torch.nn.functional.pad(z[..., None], (0, 2)), black, True)
    found = Surface(averages(depths, alphas)[:, 0], medians, averages(normals, alphas))
    return Render(images, alphas, means2d, visible, found)
