"""The CUDA rasterizer, which draws all views in one batched call of gsplat."""

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
    """Check that this backend can run. The first call may compile gsplat, which takes minutes.

    Raises:
        BackendError: ``device_type`` is not ``cuda``, or gsplat cannot load its kernels.
    """
    if device_type != "cuda":
        raise BackendError(
            f"backend=gsplat needs a CUDA device, and this run is on {device_type}; "
            "choose backend=auto"
        )
    if missing := _missing():
        raise BackendError(
            f"gsplat cannot load its CUDA kernels ({missing}); install a C++ compiler and the nvcc "
            "of torch's CUDA version, or choose backend=reference"
        )


@cache
def _missing() -> str:
    """Load gsplat's kernels. Return the reason in one line if that fails, else an empty string.

    Without a CUDA device nothing is loaded and the result is empty, as gsplat would start a build
    of twenty minutes.
    """
    if not torch.cuda.is_available():
        return ""
    # gsplat compiles with ninja, which pip installs beside the interpreter, often not on PATH.
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
    """Render as described in :func:`esd_splat.scene.rasterize.rasterize`.

    Raises:
        BackendError: see ``require_gsplat``.
    """
    require_gsplat(gaussians.means.device.type)
    import gsplat  # slow to import, and of no use without CUDA

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
        packed=False,  # densification needs one entry per view and Gaussian
    )
    return Render(
        images=images.permute(0, 3, 1, 2),
        alphas=alphas.squeeze(-1),
        means2d=meta["means2d"],
        visible=(meta["radii"] > 0).all(dim=-1),
    )
