"""CPU rasterizer: our compiled kernels, all views in one call. Their source is ``cuda_ext/cpu``."""

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

import esd_splat.scene.rasterize.operators  # noqa: F401  tells torch of gradients
from esd_splat.errors import BackendError
from esd_splat.scene import kernels
from esd_splat.scene.cameras import Cameras
from esd_splat.scene.gaussians import Gaussians
from esd_splat.scene.rasterize.base import Render


def require_cpu(device_type: str) -> None:
    """Refuse what cannot run.

    Raises:
        BackendError: the kernels were not compiled, or the tensors are not on the CPU, or
            ``ESD_SPLAT_ISA`` names an instruction set that is not to be had.
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
    """Why the kernels would draw nothing at all, empty when they do: found out on one pixel."""
    none, pixel = torch.zeros(1, 0, 3), torch.zeros(1, 3)
    flat = none[..., :2].contiguous()
    try:
        kernels.ops.composite(flat, none, none, none[0, :, 0], flat, none[..., 0], pixel, 1, 1)
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return ""


def rasterize_cpu(
    gaussians: Gaussians, cameras: Cameras, background: Float[Tensor, "b 3"]
) -> Render:
    """See :func:`esd_splat.scene.rasterize.rasterize`. float32, or float64 to check gradients.

    The image and its gradients are the same bits at any number of threads.

    Raises:
        BackendError: see ``require_cpu``.
    """
    require_cpu(gaussians.means.device.type)
    width, height = cameras.width, cameras.height
    *projected, visible = kernels.ops.project(
        *(value.contiguous() for value in vars(gaussians).values()),
        cameras.viewmats.contiguous(),
        cameras.Ks.contiguous(),
        width,
        height,
    )
    images, alphas, *_ = kernels.ops.composite(*projected, background.contiguous(), width, height)
    return Render(images, alphas, projected[0], visible)
