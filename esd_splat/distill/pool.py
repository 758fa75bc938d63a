"""All views together, as a distribution in closed form: the entropy term without a network.

The score of the pooled views that entropic distillation needs can be learned, by a LoRA whose
camera is hidden, or computed, as here, from the latents of the latest views.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from esd_splat.settings.schema import Field, section
from esd_splat.teacher.noise import AlphasCumprod, alpha_sigma
from esd_splat.types import Latents, Timesteps

Views = Float[Tensor, "_ c hl wl"]
"""Latents of any number of views."""


@section
class Pool:
    """Which views are pooled, and how far each of them reaches. Read by losses that ask for it.

    Taken as they are, the views are a point each, and after noising hardly less separate: in
    hundreds of dimensions a noisy view is close to its own alone, but for the highest noise levels,
    so the others do not pull. Each point is therefore widened to a Gaussian and drawn towards the
    mean just so far that mean and covariance of all views together stay what they are.
    """

    views: int = Field(default=128, ge=2)
    """How many of the latest views are pooled. It must be at least batch: a view is in its own
    pool."""
    bandwidth: float = Field(default=1.0, ge=0, le=1)
    """How far each view is widened, as a fraction of the covariance of all views: 0 is the exact
    distribution, 1 is a single Gaussian with the mean and covariance of the views."""

    def join(self, latents: Views | None, new: Views) -> Views:
        """The latest ``views`` latents, oldest first."""
        return (new if latents is None else torch.cat([latents, new]))[-self.views :]

    def eps(
        self, latents: Views, noisy: Latents, alphas_cumprod: AlphasCumprod, t: Timesteps
    ) -> Latents:
        """The best noise prediction for a noised draw from the pooled ``latents``.

        With ``m`` and ``S`` the mean and covariance of the ``n`` latents ``z_i`` and ``h`` the
        bandwidth, the pool is the mixture of ``N(m + sqrt(1 - h) (z_i - m), h S)``, and this is
        ``-sigma`` times the score of its noised density. At ``h = 1`` that is::

            sigma (alpha^2 S + sigma^2 I)^-1 (noisy - alpha m)

        and of one latent alone it is the noise that was drawn.

        Source:
            The shrunk kernel estimate of Silverman, "Density Estimation" (1986), section 6.4.
        """
        # In float64: where noise is low, what is left is a small difference of large numbers.
        clean, schedule = latents.flatten(1).double(), alphas_cumprod.double()
        alpha, sigma = (x.flatten(1) for x in alpha_sigma(schedule, t))
        n, h, keep = len(latents), self.bandwidth, math.sqrt(1 - self.bandwidth)
        mean = clean.mean(0)
        Z = clean - mean
        d = noisy.flatten(1).double() - alpha * mean
        # With M = alpha^2 h Z^T Z / n + sigma^2 I, Woodbury's identity turns each inverse of M into
        # one of n x n:  sigma^2 M^-1 = I - Z^T A Z,  A = h alpha^2 (h alpha^2 K + n sigma^2 I)^-1.
        K, Zd = Z @ Z.mT, d @ Z.mT
        a2, s2 = (x.square()[:, :, None] for x in (alpha, sigma))
        A = h * a2 * torch.linalg.inv(h * a2 * K + n * s2 * torch.eye(n, device=K.device))

        def narrowed(v: Tensor) -> Tensor:
            """``sigma^2 Z M^-1 v``, given ``Z v``; a row for each noise level."""
            return v - torch.einsum("ij,bjk,bk->bi", K, A, v)

        own = K.diagonal() - torch.einsum("ij,bjk,ki->bi", K, A, K)
        # Of log w_i = -(d - alpha keep z_i)^T M^-1 (d - alpha keep z_i) / 2, what depends on i.
        step = alpha * keep
        log_weights = (step * narrowed(Zd) - 0.5 * step**2 * own) / sigma**2
        weights = log_weights.softmax(-1)
        off = d - step * (weights @ Z)
        pulled = torch.einsum("bij,bj->bi", A, off @ Z.mT) @ Z
        return ((off - pulled) / sigma).view_as(noisy).to(noisy.dtype)
