"""CUDA rasterizer: one batched call of gsplat for all views."""

import importlib
import os
import sys
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from esd_splat.errors import BackendError
from esd_splat.scene.cameras import Cameras
from esd_splat.scene.gaussians import Gaussians
from esd_splat.scene.rasterize.base import BLUR_PX2, NEAR, Render, replace_undrawable


def require_gsplat(device_type: str) -> None:
    """Refuse what cannot run. The first time, gsplat may be compiled: minutes.

    Raises:
        BackendError: the tensors are not on a CUDA device, or gsplat cannot load its kernels.
    """
    if device_type != "cuda":
        raise BackendError(
            f"backend=gsplat needs a CUDA device, and this run is on {device_type}; "
            "choose backend=auto"
        )
    if missing := _missing():
        raise BackendError(
            f"gsplat cannot load its CUDA kernels ({missing}); install nvcc of torch's CUDA "
            "version and a C++ compiler, or choose backend=reference"
        )


@cache
def _missing() -> str:
    """What keeps gsplat's kernels from loading, in one line; empty when nothing does.

    Or when nothing can be known: without a device, gsplat would start a twenty-minute build.
    """
    if not torch.cuda.is_available():
        return ""
    # gsplat compiles by ninja, which pip puts beside the interpreter: not on every PATH.
    beside = str(Path(sys.executable).parent)
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), beside])
    try:
        compiled = importlib.import_module("gsplat.cuda._backend")._C
    except (AttributeError, ImportError, OSError, RuntimeError) as error:
        return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    return "" if compiled is not None else "it finds no CUDA toolkit"


def rasterize_gsplat(
    gaussians: Gaussians, cameras: Cameras, background: Float[Tensor, "b 3"]
) -> Render:
    """See :func:`esd_splat.scene.rasterize.rasterize`.

    Raises:
        BackendError: see ``require_gsplat``.
    """
    require_gsplat(gaussians.means.device.type)
    import gsplat  # heavy, and useless without CUDA

    gaussians, ok = replace_undrawable(gaussians)
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
    return Render(
        images=images.permute(0, 3, 1, 2),
        alphas=alphas.squeeze(-1),
        means2d=meta["means2d"],
        visible=(meta["radii"] > 0).all(dim=-1),
    )
