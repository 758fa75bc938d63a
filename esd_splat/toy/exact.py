"""Gaussians and their exact noise predictions; where score distillation on them must end up.

The "renderings" are ``x = L z + mu`` with ``z ~ N(0, I)`` in the part of the camera, the teacher's
images are ``N(m, S)``. Noised by ``x_t = alpha x + sigma noise``, both stay Gaussian, so all three
predictions that a loss may ask for have a closed form. Everything is float64.
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
    """Any square root of the covariance: it need be neither symmetric nor triangular."""

    @property
    def cov(self) -> Float[Tensor, "d d"]:
        """Covariance."""
        return self.factor @ self.factor.mT

    def to(self, device: str) -> "Gaussian":
        """The same Gaussian on ``device``."""
        return Gaussian(self.mean.to(device), self.factor.to(device))

    def place(self, z: Points) -> Points:
        """The points that standard normal ``z`` becomes; differentiable in mean and factor."""
        return z @ self.factor.mT + self.mean

    def eps(self, noisy: Points, alpha: Column, sigma: Column) -> Points:
        """``-sigma * score`` of this Gaussian after noising: the best prediction of the noise.

        ``sigma (alpha^2 cov + sigma^2 I)^-1 (noisy - alpha mean)``, in the basis where the
        inverse is a division, as every point has its own noise level.
        """
        spread, axes = torch.linalg.eigh(self.cov)
        return (
            (noisy - alpha * self.mean) @ axes * sigma / (alpha**2 * spread + sigma**2)
        ) @ axes.mT


def point_eps(x: Points, noisy: Points, alpha: Column, sigma: Column) -> Points:
    """``-sigma * score`` given the camera: the rendering is then the point ``x``, of no spread.

    Equal to the noise that was drawn, up to rounding; the tests hold it to that.
    """
    return (noisy - alpha * x) / sigma


def make_problem(generator: torch.Generator, ndim: int, dist_0: float) -> tuple[Gaussian, Gaussian]:
    """Target and start: target mean in the unit cube, start up to ``dist_0`` beyond it per axis.

    The draws, their order and their float32 are those of the paper's script on the CPU, so that
    the same seed means the same problem there and here.
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
    """Covariance that distillation towards covariance ``target`` ends in.

    It shares the target's axes. Along one of variance ``p``, the fitted variance ``q`` is where
    the expected direction vanishes (or 0, if it shrinks ``q`` all the way)::

        sum_t w sigma alpha (1 / (alpha^2 p + sigma^2) - lambda / (alpha^2 q + sigma^2)) = 0

    At a single level that is ``q = max(0, lambda p - (1 - lambda) sigma^2 / alpha^2)``.

    Args:
        entropy_weight: lambda; 0 for SDS and VSD.
        alpha: signal scale of each level; they count equally, apart from ``weight``.
        sigma: noise scale of each level.
        weight: w(t) of each level.
    """
    p, axes = torch.linalg.eigh(target)
    alpha, sigma, weight = alpha[:, None], sigma[:, None], weight[:, None]

    def slope(q: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
        pull = 1 / (alpha**2 * p + sigma**2) - entropy_weight / (alpha**2 * q + sigma**2)
        return (weight * sigma * alpha * pull).sum(0)

    # Each level's own answer is at most lambda p (1 when it is positive at all), or a little more
    # above lambda = 1, where noise adds (lambda - 1) sigma^2 / alpha^2.
    extra = max(0.0, entropy_weight - 1) * (sigma / alpha).square().max()
    return (axes * _root(slope, entropy_weight * p + extra)) @ axes.mT


def _root(
    slope: Callable[[Float[Tensor, " d"]], Float[Tensor, " d"]], high: Float[Tensor, " d"]
) -> Float[Tensor, " d"]:
    """Where each component of a rising function crosses 0 between 0 and ``high``, by bisection."""
    low = torch.zeros_like(high)
    for _ in range(100):
        middle = (low + high) / 2
        rising = slope(middle) > 0
        low, high = torch.where(rising, low, middle), torch.where(rising, middle, high)
    return (low + high) / 2
