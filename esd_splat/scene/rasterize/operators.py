"""Registers the gradients and the output shapes of the CPU rasterizer's kernels with torch.

The fake implementations return outputs of the right shape without computing them, as
``torch.compile`` needs. The schemas, which define the order of arguments, are beside the kernels in
``cuda_ext/cpu``.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from esd_splat.scene import kernels

TILE = 16
"""Side of the tiles into which the kernels divide an image, in pixels."""


def _save_project(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, width, height = inputs
    ctx.save_for_backward(*tensors)
    ctx.size = width, height
    *_, halves, depths, visible = output
    ctx.mark_non_differentiable(halves, depths, visible)


@once_differentiable
def _pull_project(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    upstream = (grad.contiguous() for grad in grads[:4])
    pulled = kernels.ops.project_backward(*ctx.saved_tensors, *upstream, *ctx.size)
    return *pulled, None, None, None, None


def _save_composite(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *projected, _depths, background, _width, _height, _median = inputs
    images, alphas, *bins, medians = output
    ctx.save_for_backward(*projected, background, *bins)
    ctx.mark_non_differentiable(*bins, medians)
    ctx.set_materialize_grads(False)  # or torch allocates zero gradients for the large bins
    ctx.shapes = images.shape, alphas.shape


@once_differentiable
def _pull_composite(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors
    upstream = (
        saved[0].new_zeros(shape) if grad is None else grad.contiguous()
        for grad, shape in zip(grads[:2], ctx.shapes, strict=True)
    )
    *pulled, d_background, _ = kernels.ops.composite_backward(*saved, *upstream, False)
    return *pulled, None, None, d_background, None, None, None


@kernels.fake("project")
def _fake_project(
    means: Tensor, quats: Tensor, log_scales: Tensor, opacity_logits: Tensor, *rest: Any
) -> tuple[Tensor, ...]:
    *_, viewmats, _Ks, _width, _height = rest
    b, n = len(viewmats), len(means)
    means2d, conics, colors, halves = (means.new_empty(b, n, size) for size in (2, 3, 3, 2))
    log_opacities, depths = torch.empty_like(opacity_logits), means.new_empty(b, n)
    visible = means.new_empty(b, n, dtype=torch.bool)
    return means2d, conics, colors, log_opacities, halves, depths, visible


@kernels.fake("project_backward")
def _fake_project_backward(*args: Any) -> tuple[Tensor, ...]:
    return tuple(torch.empty_like(parameter) for parameter in args[:6])


@kernels.fake("composite")
def _fake_composite(means2d: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    *_, width, height, median = rest
    b = len(means2d)
    tiles = b * ((width + TILE - 1) // TILE) * ((height + TILE - 1) // TILE)
    pairs = torch.library.get_ctx().new_dynamic_size()  # pairs of a tile and a Gaussian
    return (
        means2d.new_empty(b, 3, height, width),
        means2d.new_empty(b, height, width),
        means2d.new_empty(pairs, dtype=torch.int32),
        means2d.new_empty(tiles + 1, dtype=torch.int64),
        means2d.new_empty(tiles, TILE * TILE, dtype=torch.int32),
        means2d.new_empty(tiles, TILE * TILE),
        means2d.new_empty(b if median else 0, height, width),
    )


@kernels.fake("composite_backward")
def _fake_composite_backward(*args: Any) -> tuple[Tensor, ...]:
    means2d, conics, colors, log_opacities, _halves, background, *_, absgrad = args
    b, n = means2d.shape[:2]
    inputs = means2d, conics, colors, log_opacities, background
    return *(torch.empty_like(x) for x in inputs), means2d.new_empty(b if absgrad else 0, n, 2)


if not kernels.MISSING:
    torch.library.register_autograd(
        "esd_splat::project", _pull_project, setup_context=_save_project
    )
    torch.library.register_autograd(
        "esd_splat::composite", _pull_composite, setup_context=_save_composite
    )
