"""The CUDA rasterizer, which draws all views in one batched call of gsplat."""

import importlib
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from esd_splat.errors import BackendError
from esd_splat.scene.cameras import Cameras
from esd_splat.scene.gaussians import Gaussians
from esd_splat.scene.rasterize.base import (
    BLUR_PX2,
    NEAR,
    Render,
    Surface,
    averages,
    replace_undrawable,
)
from esd_splat.scene.rasterize.culling import Pairs
from esd_splat.scene.rasterize.tiles import median_depths


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
    gaussians: Gaussians,
    cameras: Cameras,
    background: Float[Tensor, "b 3"],
    surface: bool = False,
) -> Render:
    """Render as described in :func:`esd_splat.scene.rasterize.rasterize`.

    For a surface, gsplat's mode ``RGB+ED`` gives the expected depth, and normals are composited as
    further colours. It has no median depth, which is found in torch from its lists of Gaussians.

    Raises:
        BackendError: see ``require_gsplat``.
    """
    require_gsplat(gaussians.means.device.type)
    import gsplat  # slow to import, and of no use without CUDA

    gaussians, ok = replace_undrawable(gaussians)
    eyes = cameras.eyes
    colors = _colors(gaussians, eyes)
    if surface:
        colors = torch.cat([colors, gaussians.normals(eyes)], -1)
        background = torch.nn.functional.pad(background, (0, 3))
    planes, alphas, meta = gsplat.rasterization(
        means=gaussians.means,
        quats=gaussians.quats,
        scales=gaussians.log_scales.exp(),
        opacities=torch.where(ok, gaussians.opacities, 0.0),
        colors=colors,
        viewmats=cameras.viewmats,
        Ks=cameras.Ks,
        width=cameras.width,
        height=cameras.height,
        near_plane=NEAR,
        eps2d=BLUR_PX2,
        backgrounds=background,
        render_mode="RGB+ED" if surface else "RGB",
        packed=False,  # densification needs one entry per view and Gaussian
    )
    images, alphas = planes.permute(0, 3, 1, 2), alphas.squeeze(-1)
    found = None
    if surface:
        log_opacities = torch.nn.functional.logsigmoid(gaussians.opacity_logits)
        screen = meta["means2d"], meta["conics"], log_opacities, meta["depths"]
        size = cameras.width, cameras.height, meta["tile_size"]
        medians = median_depths(*screen, _pairs(meta), *size)
        images, normals, depths = images.split([3, 3, 1], dim=1)
        found = Surface(depths[:, 0], medians, averages(normals, alphas))
    visible = (meta["radii"] > 0).all(dim=-1)
    return Render(images, alphas, meta["means2d"], visible, found)


def _colors(gaussians: Gaussians, eyes: Float[Tensor, "b 3"]) -> Float[Tensor, "b n 3"]:
    """Return the colour of each Gaussian seen from ``eyes``, by gsplat's kernel for harmonics.

    Left to itself, ``gsplat.rasterization`` would find the eyes by inverting matrices, for which
    the host waits.
    """
    import gsplat

    harmonics = torch.cat([gaussians.sh0, gaussians.shN], dim=1).expand(len(eyes), -1, -1, -1)
    directions = gaussians.means - eyes[:, None]
    # A Gaussian at the eye has no direction. It is not drawn, and gets no gradient either.
    elsewhere = (directions != 0).any(-1)
    found = gsplat.spherical_harmonics(gaussians.sh_degree, directions, harmonics, elsewhere)
    return (found + 0.5).clamp(min=0)


def _pairs(meta: dict[str, Any]) -> Pairs:
    """Return gsplat's lists of the Gaussians of each tile, nearest first."""
    rows, offsets = meta["flatten_ids"].long(), meta["isect_offsets"]
    b, down, across = offsets.shape
    counts = offsets.flatten().diff(append=offsets.new_tensor([len(rows)]))
    tiles = torch.arange(down * across, device=rows.device).repeat(b).repeat_interleave(counts)
    origins = torch.stack([tiles % across, tiles // across], dim=1) * meta["tile_size"]
    return Pairs(rows, origins, (b, down, across), counts.tolist())
