"""The CUDA rasterizer, which draws all views in one batched call of gsplat."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from esd_splat.errors import BackendError
from esd_splat.scene.cameras import Cameras
from esd_splat.scene.gaussians import Gaussians
from esd_splat.scene.rasterize import gsplat_build
from esd_splat.scene.rasterize.base import (
    BLUR_PX2,
    NEAR,
    Render,
    Surface,
    averages,
    replace_undrawable,
)
from esd_splat.scene.rasterize.culling import Pairs
from esd_splat.scene.rasterize.reference import FRUSTUM_MARGIN
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
    if missing := gsplat_build.missing():
        raise BackendError(
            f"backend=gsplat cannot load its CUDA kernels ({missing}); `esd-splat doctor` says how "
            "to get a CUDA toolkit, or choose backend=auto"
        )


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
    ok = ok & ~overflow(gaussians, cameras)
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


@torch.no_grad()
def overflow(gaussians: Gaussians, cameras: Cameras) -> Bool[Tensor, " n"]:
    """Return which rows are so large that their covariance on some screen may overflow.

    gsplat takes no note if the determinant is NaN, and draws. The trace of the covariance is at
    most that of the Jacobian's square times the largest variance, and the determinant at most the
    square of the trace. The reference drops such a row only from the view in which it overflows.
    """
    z = gaussians.means @ cameras.viewmats[:, 2, :3].mT + cameras.viewmats[:, 2, 3]
    fx, fy = cameras.Ks[:, 0, 0], cameras.Ks[:, 1, 1]
    # Rays are clamped to FRUSTUM_MARGIN beyond the image, so their slopes are at most these.
    wide = (1 + FRUSTUM_MARGIN) * cameras.width / fx
    high = (1 + FRUSTUM_MARGIN) * cameras.height / fy
    jacobian = fx.square() * (1 + wide.square()) + fy.square() * (1 + high.square())
    variance = (2 * gaussians.log_scales).exp().sum(dim=1)
    trace = variance[:, None] * jacobian / z.square()
    return ((z > NEAR) & ~trace.square().isfinite()).any(dim=1)


def _pairs(meta: dict[str, Any]) -> Pairs:
    """Return gsplat's lists of the Gaussians of each tile, nearest first."""
    rows, offsets = meta["flatten_ids"].long(), meta["isect_offsets"]
    b, down, across = offsets.shape
    counts = offsets.flatten().diff(append=offsets.new_tensor([len(rows)]))
    tiles = torch.arange(down * across, device=rows.device).repeat(b).repeat_interleave(counts)
    origins = torch.stack([tiles % across, tiles // across], dim=1) * meta["tile_size"]
    return Pairs(rows, origins, (b, down, across), counts.tolist())
