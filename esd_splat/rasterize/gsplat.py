"""CUDA rasterizer: one batched call of gsplat for all views."""

import torch
from jaxtyping import Float
from torch import Tensor

from esd_splat.cameras import Cameras
from esd_splat.errors import BackendError
from esd_splat.gaussians import Gaussians
from esd_splat.rasterize.base import BLUR_PX2, NEAR, Render, replace_undrawable


def rasterize_gsplat(
    gaussians: Gaussians, cameras: Cameras, background: Float[Tensor, "b 3"]
) -> Render:
    """See :func:`esd_splat.rasterize.rasterize`. The first call may compile gsplat: minutes.

    Raises:
        BackendError: the tensors are not on a CUDA device, or gsplat cannot load its kernels.
    """
    # Asked of the tensor, not of gsplat: without a device gsplat fails in three different ways, or
    # starts a twenty-minute build first.
    if not gaussians.means.is_cuda:
        raise BackendError(
            f"backend=gsplat needs a CUDA device, and the Gaussians are on "
            f"{gaussians.means.device.type}; choose backend=auto"
        )
    import gsplat  # heavy, and useless without CUDA

    gaussians, ok = replace_undrawable(gaussians)
    try:
        images, alphas, meta = gsplat.rasterization(
            means=gaussians.means,
            quats=gaussians.quats,
            scales=gaussians.log_scales.exp(),
            opacities=torch.where(ok, gaussians.opacities, 0.0),
            colors=torch.cat([gaussians.sh0, gaussians.shN], dim=1),
            sh_degree=gaussians.sh_degree,
            viewmats=cameras.viewmats,
            Ks=cameras.Ks,
            width=cameras.width,
            height=cameras.height,
            near_plane=NEAR,
            eps2d=BLUR_PX2,
            backgrounds=background,
            packed=False,  # per view and Gaussian: what densification counts
        )
    except (AttributeError, ImportError) as error:
        # What gsplat raises when it finds no nvcc, or a build that does not load.
        raise BackendError(
            f"gsplat cannot load its CUDA kernels ({type(error).__name__}: {error}); install nvcc "
            "of torch's CUDA version and a C++ compiler, or choose backend=reference"
        ) from error
    return Render(
        images=images.permute(0, 3, 1, 2),
        alphas=alphas.squeeze(-1),
        means2d=meta["means2d"],
        visible=(meta["radii"] > 0).all(dim=-1),
    )
