"""What gsplat's rasterizer would hold in memory, without drawing anything."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from esd_splat.scene.cameras import Cameras
from esd_splat.scene.gaussians import Gaussians
from esd_splat.scene.rasterize.base import Render, replace_undrawable

TILES_PER_GAUSSIAN = 12
"""Tiles of 16 x 16 pixels that a Gaussian touches in a view. This is an assumption."""


def draw(
    gaussians: Gaussians,
    cameras: Cameras,
    background: Float[Tensor, "b 3"],
    surface: bool = False,
) -> Render:
    """Return a render without content that keeps as much memory as gsplat 1.5 until ``backward``.

    It has the same tensors as gsplat's projection, harmonics, lists of tiles and compositing.
    """
    scene, ok = replace_undrawable(gaussians)
    harmonics = torch.cat([scene.sh0, scene.shN], dim=1)
    opacities = torch.where(ok, scene.opacities, 0.0).repeat(len(cameras), 1)
    shape = scene.means, scene.quats, scene.log_scales.exp()
    radii, means2d, conics, colors = _Project.apply(*shape, harmonics, len(cameras))
    colors = (colors + 0.5).clamp(min=0)
    size = cameras.height, cameras.width
    planes, alphas = _Composite.apply(means2d, conics, colors, opacities, size)
    visible = (radii > 0).all(dim=-1)
    return Render(planes.permute(0, 3, 1, 2), alphas[..., 0], means2d, visible)


class _Project(torch.autograd.Function):
    """From Gaussians to their outlines and colours in each view."""

    @staticmethod
    def forward(
        ctx: Any, means: Tensor, quats: Tensor, scales: Tensor, harmonics: Tensor, views: int
    ) -> tuple[Tensor, ...]:
        count = views, len(means)
        radii = means.new_ones(*count, 2, dtype=torch.int32)
        means2d, conics, colors, directions = (means.new_zeros(*count, n) for n in (2, 3, 3, 3))
        of_each = harmonics.expand(views, -1, -1, -1).contiguous()
        depths = means.new_zeros(count)
        ctx.save_for_backward(
            *(means, quats, scales, harmonics), radii, conics, depths, directions, of_each
        )
        ctx.mark_non_differentiable(radii)
        return radii, means2d, conics, colors

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return *(torch.zeros_like(saved) for saved in ctx.saved_tensors[:4]), None


class _Composite(torch.autograd.Function):
    """From outlines to pixels, by sorted lists of the Gaussians of each tile."""

    @staticmethod
    def forward(
        ctx: Any,
        means2d: Tensor,
        conics: Tensor,
        colors: Tensor,
        opacities: Tensor,
        size: tuple[int, int],
    ) -> tuple[Tensor, Tensor]:
        image, new = (len(means2d), *size), means2d.new_zeros
        pairs = TILES_PER_GAUSSIAN * opacities.numel()
        unsorted = new(pairs, dtype=torch.int64), new(pairs, dtype=torch.int32)
        _keys, rows = (torch.zeros_like(each) for each in unsorted)
        planes, alphas = new(*image, 3), new(*image, 1)
        last = new(image, dtype=torch.int32)
        ctx.save_for_backward(means2d, conics, colors, opacities, rows, last, alphas)
        return planes, alphas

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return *(torch.zeros_like(saved) for saved in ctx.saved_tensors[:4]), None
