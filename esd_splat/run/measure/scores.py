"""The exact distribution of noised views: its noise predictions, and what a view tells of its pose.

A scene's views are known, so what a network can only learn of them has a closed form: the mixture
of one Gaussian for each view. Densities and sums; nothing of scenes or networks.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def mixture_eps(
    noisy: Float[Tensor, " b *shape"],
    points: Float[Tensor, " n *shape"],
    alpha: float,
    sigma: float,
) -> Float[Tensor, " b *shape"]:
    """The best noise prediction for ``alpha z + sigma noise`` with ``z`` any of ``points``.

    That is ``-sigma`` times the score of the equal mixture of ``N(alpha z_i, sigma^2 I)``::

        (noisy - alpha sum_i p(i | noisy) z_i) / sigma

    and of a single point it is the noise that was drawn.

    Args:
        noisy: drawn from that mixture, or any others.
        points: clean, equally likely.
        alpha: signal scale.
        sigma: noise scale, above 0.
    """
    x, z = noisy.flatten(1), points.flatten(1)
    weights = _log_likelihoods(noisy, points, alpha, sigma).softmax(1)
    return ((x - alpha * weights @ z) / sigma).view_as(noisy)


def view_information(
    noisy: Float[Tensor, " b *shape"],
    points: Float[Tensor, " cameras backgrounds *shape"],
    alpha: float,
    sigma: float,
) -> float:
    """Mutual information of a noised view and its camera, in nats, from 0 to log(cameras).

    Estimated as ``log(cameras)`` less the mean entropy of ``p(camera | noisy)``, in which every
    background counts alike.

    Args:
        noisy: draws of ``alpha z + sigma noise``, with ``z`` any of ``points`` alike: of others
            this is no information.
        points: clean views from each camera.
        alpha: signal scale.
        sigma: noise scale, above 0.
    """
    cameras, backgrounds = points.shape[:2]
    each = _log_likelihoods(noisy, points.flatten(0, 1), alpha, sigma)
    posterior = each.unflatten(1, (cameras, backgrounds)).logsumexp(2).softmax(1)
    return math.log(cameras) - float(torch.special.entr(posterior).sum(1).mean())


def _log_likelihoods(
    noisy: Tensor, points: Tensor, alpha: float, sigma: float
) -> Float[Tensor, "b n"]:
    """``log p(noisy | point)``, but for what is the same for all points."""
    # By differences: as |x|^2 - 2 x z + |z|^2 a distance loses its digits where points are close.
    by = "donot_use_mm_for_euclid_dist"
    apart = torch.cdist(noisy.flatten(1), alpha * points.flatten(1), compute_mode=by)
    return -0.5 * (apart / sigma).square()
