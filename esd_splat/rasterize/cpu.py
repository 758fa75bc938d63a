"""CPU rasterizer: our compiled kernels, all views in one call. Their source is ``cuda_ext/cpu``."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from esd_splat import native
from esd_splat.cameras import Cameras
from esd_splat.errors import BackendError
from esd_splat.gaussians import Gaussians
from esd_splat.rasterize.base import Render


def require_cpu(device_type: str) -> None:
    """Refuse what cannot run.

    Raises:
        BackendError: the kernels were not compiled, or the tensors are not on the CPU.
    """
    if native.MISSING:
        raise BackendError(
            f"backend=cpu needs the compiled kernels; {native.COMPILE}, or choose backend=reference"
        )
    if device_type != "cpu":
        raise BackendError(
            f"backend=cpu needs the CPU, and this run is on {device_type}; choose backend=auto"
        )


def rasterize_cpu(
    gaussians: Gaussians, cameras: Cameras, background: Float[Tensor, "b 3"]
) -> Render:
    """See :func:`esd_splat.rasterize.rasterize`. float32, or float64 to check gradients.

    The image and its gradients are the same bits at any number of threads.

    Raises:
        BackendError: see ``require_cpu``.
    """
    require_cpu(gaussians.means.device.type)
    means2d, conics, colors, log_opacities, halves, depths, visible = _Project.apply(
        *(value.contiguous() for value in vars(gaussians).values()),
        cameras.viewmats.contiguous(),
        cameras.Ks.contiguous(),
        cameras.width,
        cameras.height,
    )
    images, alphas = _Composite.apply(
        means2d, conics, colors, log_opacities, halves, depths, background.contiguous(), cameras
    )
    return Render(images, alphas, means2d, visible)


class _Project(torch.autograd.Function):
    """Parameters to what compositing needs of every Gaussian in every view."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> tuple[Tensor, ...]:
        *tensors, width, height = args
        out = native.ops.project(*tensors, width, height)
        ctx.save_for_backward(*tensors)
        ctx.size = width, height
        halves, depths, visible = out[4:]
        ctx.mark_non_differentiable(halves, depths, visible)
        return out

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor | None, ...]:
        upstream = (grad.contiguous() for grad in grads[:4])
        pulled = native.ops.project_backward(*ctx.saved_tensors, *upstream, *ctx.size)
        return *pulled, None, None, None, None


class _Composite(torch.autograd.Function):
    """Projected Gaussians to images and opacities."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> tuple[Tensor, Tensor]:
        means2d, conics, colors, log_opacities, halves, depths, background, cameras = args
        projected = means2d, conics, colors, log_opacities, halves
        images, alphas, *bins = native.ops.composite(
            *projected, depths, background, cameras.width, cameras.height
        )
        ctx.save_for_backward(*projected, background, *bins)
        return images, alphas

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor | None, ...]:
        upstream = (grad.contiguous() for grad in grads)
        *pulled, d_background, _ = native.ops.composite_backward(
            *ctx.saved_tensors, *upstream, False
        )
        return *pulled, None, None, d_background, None
