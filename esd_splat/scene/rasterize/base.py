"""What every rasterizer takes and returns, and the constants of the image they agree on."""

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
"""Contributions below one 8-bit step are dropped (3DGS)."""
MAX_ALPHA = 0.999
"""Keeps transmittance, and hence its gradient, away from zero (gsplat 1.5; 3DGS has 0.99)."""
MIN_TRANSMITTANCE = 1e-4
"""A Gaussian that would leave no more light than this ends the pixel, and is not drawn (3DGS)."""
NEAR = 0.01
"""Gaussians whose centre is closer than this, in world units, are not drawn."""


@dataclass(frozen=True)
class Render:
    """One batch of views of one scene."""

    images: Images
    """RGB, not negative. Above 1 only where a colour is: clamp when writing to 8 bits."""
    alphas: Float[Tensor, "b h w"]
    """Opacity accumulated along each pixel's ray, in [0, 1]."""
    means2d: Float[Tensor, "b n 2"]
    """Projected centres, pixels. ``images`` depend on it: after ``retain_grad()`` and a backward
    pass its ``grad`` is what densification asks for. Zero where not ``visible``."""
    visible: Bool[Tensor, "b n"]
    """Whether a Gaussian reaches the picture: in front of the camera, not fainter than the cut,
    and the box around its footprint (rounded up to whole pixels) meets the image."""


Rasterizer = Callable[[Gaussians, Cameras, Float[Tensor, "b 3"]], Render]


def drawable(gaussians: Gaussians) -> Bool[Tensor, " n"]:
    """Rows that have a picture at all: all values finite, also when squared, and a rotation."""
    rows = [value.flatten(1) for value in vars(gaussians).values() if value.ndim > 1]
    finite = torch.cat([*rows, gaussians.opacity_logits[:, None]], dim=1).isfinite().all(dim=1)
    variances = (2 * gaussians.log_scales).exp().sum(dim=1)
    length = gaussians.quats.square().sum(dim=1)
    return finite & variances.isfinite() & length.isfinite() & (length > 0)


def replace_undrawable(gaussians: Gaussians) -> tuple[Gaussians, Bool[Tensor, " n"]]:
    """The scene with 1 for every number of the rows that are not ``drawable``; and which are.

    The replaced rows get zero gradients, where 0 * NaN would poison sums over all rows. Whoever
    draws must leave them out.
    """
    ok = drawable(gaussians)
    safe = gaussians.map(lambda v: torch.where(ok.view(-1, *(1,) * (v.ndim - 1)), v, 1.0))
    return safe, ok
