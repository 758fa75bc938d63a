"""The interface of rasterizers, and the constants of the image that all of them share."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from esd_splat.scene.cameras import Cameras
from esd_splat.scene.gaussians import Gaussians
from esd_splat.types import Images

BLUR_PX2 = 0.3
"""Added to each screen-space variance so that no splat is thinner than a pixel (3DGS)."""
MIN_ALPHA = 1 / 255
"""Contributions with an alpha below this, one 8-bit step, are dropped (3DGS)."""
MAX_ALPHA = 0.999
"""Upper bound of alpha, which keeps the transmittance and its gradient away from zero (gsplat 1.5;
0.99 in 3DGS)."""
MIN_TRANSMITTANCE = 1e-4
"""A pixel ends at the first Gaussian that would reduce its transmittance to this or less. That
Gaussian and those behind it are not drawn (3DGS)."""
NEAR = 0.01
"""Gaussians are not drawn if the depth of their centre is at most this, in world units."""


@dataclass(frozen=True)
class Surface:
    """Depths and normals of one scene from a batch of views. All are 0 where nothing is drawn.

    With the weights ``w_i = alpha_i T_{i-1}`` of a pixel, whose sum is its ``Render.alphas``, and
    the depth ``z_i`` of the centre of a Gaussian along the camera's axis.
    """

    depths: Float[Tensor, "b h w"]
    """Expected depth ``sum_i w_i z_i / sum_i w_i`` in world units, as gsplat's mode ``ED``. It is
    differentiable with respect to ``means``, and through the weights as the images are."""
    median_depths: Float[Tensor, "b h w"]
    """The ``z_i`` of the Gaussian at which the transmittance falls to 1/2 or less, and 0 where it
    stays above. It has no gradient. In 2DGS (Huang et al., arXiv:2403.17888), a pixel that stays
    above has the depth of the last Gaussian drawn, so it differs where ``alphas`` is below 1/2."""
    normals: Float[Tensor, "b 3 h w"]
    """Expected normal ``sum_i w_i n_i / sum_i w_i`` in world space, with the unit normals ``n_i``
    of ``Gaussians.normals``. Its length is at most 1, and 1 where all Gaussians agree. Normalize it
    for a mesh. It is differentiable with respect to ``quats``, and through the weights."""


@dataclass(frozen=True)
class Render:
    """The images of one scene from a batch of views, with what densification needs to know."""

    images: Images
    """RGB, at least 0. Values above 1 occur where colours are above 1; clamp them when writing 8
    bits."""
    alphas: Float[Tensor, "b h w"]
    """Opacity accumulated along the ray of each pixel, in [0, 1]."""
    means2d: Float[Tensor, "b n 2"]
    """Projected centres, in pixels. ``images`` depend on them: call ``retain_grad()``, and after
    the backward pass ``grad`` holds the gradient for densification. Both are defined only where a
    Gaussian is ``visible``: elsewhere, gsplat leaves the memory as it was, which may be NaN."""
    visible: Bool[Tensor, "b n"]
    """Whether a Gaussian is visible: it is in front of the camera, its opacity is at least
    ``MIN_ALPHA``, and the box around its footprint, rounded up to whole pixels, overlaps the
    image."""
    surface: Surface | None = None
    """Depths and normals, only where ``rasterize`` was asked for them."""


Rasterizer = Callable[[Gaussians, Cameras, Float[Tensor, "b 3"], bool], Render]


def averages(
    sums: Float[Tensor, "b c h w"], alphas: Float[Tensor, "b h w"]
) -> Float[Tensor, "b c h w"]:
    """Divide weighted sums by the sums of the weights. The result is 0 where nothing is drawn."""
    return sums / alphas.clamp(min=1e-10)[:, None]  # gsplat's bound


def drawable(gaussians: Gaussians) -> Bool[Tensor, " n"]:
    """Return which rows can be drawn.

    All values must be finite, as must the squares of scales and quaternions, and the quaternion
    must not be zero.
    """
    rows = [value.flatten(1) for value in vars(gaussians).values() if value.ndim > 1]
    finite = torch.cat([*rows, gaussians.opacity_logits[:, None]], dim=1).isfinite().all(dim=1)
    variances = (2 * gaussians.log_scales).exp().sum(dim=1)
    length = gaussians.quats.square().sum(dim=1)
    return finite & variances.isfinite() & length.isfinite() & (length > 0)


def replace_undrawable(gaussians: Gaussians) -> tuple[Gaussians, Bool[Tensor, " n"]]:
    """Replace all values of rows that are not ``drawable`` by 1.

    The replaced rows get zero gradients. Without the replacement, 0 * NaN would turn sums over all
    rows into NaN.

    Returns:
        The scene, and which rows are drawable. The caller must not draw the others.
    """
    ok = drawable(gaussians)
    safe = gaussians.map(lambda v: torch.where(ok.view(-1, *(1,) * (v.ndim - 1)), v, 1.0))
    return safe, ok
