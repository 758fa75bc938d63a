"""gsplat's kernels in PyTorch, so that ``gsplat.rasterization`` runs without a GPU.

gsplat has PyTorch versions of most kernels. That of the last one, which composites, needs another
kernel, so it is written here after ``RasterizeToPixels3DGSFwd.cu``. There are no gradients.
"""

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from esd_splat.scene import rasterize


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make ``backend="gsplat"`` run on this machine, for one test."""
    torch_impl = pytest.importorskip("gsplat.cuda._torch_impl")

    def project(means: Tensor, _covars: None, quats: Tensor, scales: Tensor, *rest: Any) -> Any:
        opacities, viewmats, Ks, width, height, eps2d, near, far, *_ = rest
        covars, _ = torch_impl._quat_scale_to_covar_preci(quats, scales, compute_preci=False)
        radii, *projected = torch_impl._fully_fused_projection(
            means, covars, viewmats, Ks, width, height, eps2d, near, far
        )
        return radii * (opacities >= 1 / 255)[:, None], *projected

    def bin_by_tile(means2d: Tensor, radii: Tensor, depths: Tensor, *rest: Any) -> Any:
        _, _, _, tile, across, down, _, _ = rest
        return torch_impl._isect_tiles(means2d, radii, depths, tile, across, down)

    kernels = SimpleNamespace(
        CameraModelType=None,
        PINHOLE="pinhole",  # gsplat reads CameraModelType.PINHOLE from here
        projection_ewa_3dgs_fused_fwd=project,
        spherical_harmonics_fwd=lambda degree, directions, coefficients, _masks: (
            torch_impl._spherical_harmonics(degree, directions, coefficients)
        ),
        intersect_tile=bin_by_tile,
        intersect_offset=torch_impl._isect_offset_encode,
        rasterize_to_pixels_3dgs_fwd=_composite,
    )
    monkeypatch.setitem(sys.modules, "gsplat.cuda._backend", SimpleNamespace(_C=kernels))
    for module in (rasterize, sys.modules["esd_splat.scene.rasterize.gsplat"]):
        monkeypatch.setattr(module, "require_gsplat", lambda device_type: None)


def _composite(
    means2d: Tensor,
    conics: Tensor,
    colors: Tensor,
    opacities: Tensor,
    backgrounds: Tensor,
    _masks: None,
    width: int,
    height: int,
    tile: int,
    offsets: Tensor,
    rows: Tensor,
) -> tuple[Tensor, Tensor, None]:
    b, _, across = offsets.shape
    means2d, conics, colors = (x.flatten(0, 1) for x in (means2d, conics, colors))
    opacities, ends = opacities.flatten(), [*offsets.flatten().tolist(), len(rows)]
    images, alphas = torch.empty(b, height, width, colors.shape[-1]), torch.empty(b, height, width)
    for view in range(b):
        for y in range(height):
            for x in range(width):
                at = offsets[view].numel() * view + y // tile * across + x // tile
                near = rows[ends[at] : ends[at + 1]].long()
                dx, dy = (means2d[near] - means2d.new_tensor([x + 0.5, y + 0.5])).unbind(-1)
                xx, xy, yy = conics[near].unbind(-1)
                power = 0.5 * (xx * dx * dx + yy * dy * dy) + xy * dx * dy
                alpha = (opacities[near] * (-power).exp()).clamp(max=0.999)
                alpha = torch.where(alpha < 1 / 255, 0.0, alpha)
                after = (1 - alpha).cumprod(0)
                before = torch.cat([after.new_ones(1), after])[:-1]
                weights = torch.where(after > 1e-4, alpha * before, 0.0)
                alphas[view, y, x] = weights.sum()
                images[view, y, x] = weights @ colors[near]
    return images + (1 - alphas)[..., None] * backgrounds[:, None, None], alphas[..., None], None
