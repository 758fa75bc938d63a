"""Gaussians, their exact noise predictions, and the fixed points of score distillation on them.

The "renders" are ``x = L z + mu``, where ``z ~ N(0, I)`` plays the part of the camera, and the
teacher's images are ``N(m, S)``. After noising by ``x_t = alpha x + sigma noise``, both are still
Gaussian, so the three predictions that a loss can use have a closed form. Everything is float64.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Points = Float[Tensor, "n d"]
Column = Float[Tensor, "n 1"]


@dataclass(frozen=True)
class Gaussian:
    """``N(mean, factor factor^T)``."""

    mean: Float[Tensor, " d"]
    factor: Float[Tensor, "d d"]
    """Any square root of the covariance, not necessarily symmetric or triangular."""

    @property
    def cov(self) -> Float[Tensor, "d d"]:
        """The covariance."""
        return self.factor @ self.factor.mT

    def to(self, device: str) -> "Gaussian":
        """Return the same Gaussian on ``device``."""
        return Gaussian(self.mean.to(device), self.factor.to(device))

    def place(self, z: Points) -> Points:
        """Map standard normal ``z`` to this Gaussian. Differentiable in mean and factor."""
        return z @ self.factor.mT + self.mean

    def eps(self, noisy: Points, alpha: Column, sigma: Column) -> Points:
        """Return ``-sigma * score`` of the noised Gaussian, the best prediction of the noise.

        This is ``sigma (alpha^2 cov + sigma^2 I)^-1 (noisy - alpha mean)``. Every point has its
        own noise level, so it is computed in the basis where the inverse is a division.
        """
        spread, axes = torch.linalg.eigh(self.cov)
        return (
            (noisy - alpha * self.mean) @ axes * sigma / (alpha**2 * spread + sigma**2)
        ) @ axes.mT


def point_eps(x: Points, noisy: Points, alpha: Column, sigma: Column) -> Points:
    """Return ``-sigma * score`` given the camera, for which the render is the single point ``x``.

    Up to rounding, it is equal to the noise that was drawn.
    """
    return (noisy - alpha * x) / sigma


def make_problem(generator: torch.Generator, ndim: int, dist_0: float) -> tuple[Gaussian, Gaussian]:
    """Draw the target and the start of the fit.

    The mean of the target is in the unit cube, and that of the start is larger by up to ``dist_0``
    in each coordinate. The draws, their order and their type, float32, are those of the paper's
    script on the CPU, so the same seed gives the same problem.

    Returns:
        The target and the start.
    """

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    mean, factor = rand(ndim), rand(ndim, ndim) + torch.eye(ndim)
    start = Gaussian((rand(ndim) * dist_0 + mean).double(), rand(ndim, ndim).double())
    return Gaussian(mean.double(), factor.double()), start


def fixed_point(
    target: Float[Tensor, "d d"],
    entropy_weight: float,
    alpha: Float[Tensor, " levels"],
    sigma: Float[Tensor, " levels"],
    weight: Float[Tensor, " levels"],
) -> Float[Tensor, "d d"]:
    """Return the covariance that distillation towards a target covariance converges to.

    It has the same axes as the target. Along an axis where the target has variance ``p``, the
    fitted variance ``q`` is where the expected direction vanishes (or 0, if it shrinks ``q`` to
    nothing)::

        sum_t w sigma alpha (1 / (alpha^2 p + sigma^2) - lambda / (alpha^2 q + sigma^2)) = 0

    At a single noise level, this is ``q = max(0, lambda p - (1 - lambda) sigma^2 / alpha^2)``.

    Args:
        target: the covariance of the target.
        entropy_weight: lambda, which is 0 for SDS and VSD.
        alpha: signal scale of each noise level. All levels are drawn equally often.
        sigma: noise scale of each noise level.
        weight: w(t) of each noise level.
    """
    p, axes = torch.linalg.eigh(target)
    alpha, sigma, weight = alpha[:, None], sigma[:, None], weight[:, None]

    def slope(q: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
        pull = 1 / (alpha**2 * p + sigma**2) - entropy_weight / (alpha**2 * q + sigma**2)
        return (weight * sigma * alpha * pull).sum(0)

    # The fixed point of each single level is at most lambda p, to which the noise adds
    # (lambda - 1) sigma^2 / alpha^2 if lambda is above 1.
    extra = max(0.0, entropy_weight - 1) * (sigma / alpha).square().max()
    return (axes * _root(slope, entropy_weight * p + extra)) @ axes.mT


def _root(
    slope: Callable[[Float[Tensor, " d"]], Float[Tensor, " d"]], high: Float[Tensor, " d"]
) -> Float[Tensor, " d"]:
    """Find where each component of an increasing function is 0 in [0, ``high``], by bisection."""
    low = torch.zeros_like(high)
    for _ in range(100):
        middle = (low + high) / 2
        rising = slope(middle) > 0
        low, high = torch.where(rising, low, middle), torch.where(rising, middle, high)
    return (low + high) / 2
