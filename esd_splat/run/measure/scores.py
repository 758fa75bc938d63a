"""The exact distribution of noised views: noise predictions, and information about the camera.

The views of a scene are known, so their noised distribution, which a network can only learn, has a
closed form: a mixture with one Gaussian for each view.
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
    """Return the best noise prediction for ``alpha z + sigma noise`` with ``z`` one of ``points``.

    It is ``-sigma`` times the score of the equal mixture of ``N(alpha z_i, sigma^2 I)``::

        (noisy - alpha sum_i p(i | noisy) z_i) / sigma

    For a single point it is the noise that was drawn.

    Args:
        noisy: samples of that mixture, or any other values.
        points: clean values, all equally likely.
        alpha: the signal scale.
        sigma: the noise scale, above 0.
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
    """Return the mutual information of a noised view and its camera, from 0 to log(cameras) nats.

    The estimate is ``log(cameras)`` minus the mean entropy of ``p(camera | noisy)``, in which all
    backgrounds are equally likely.

    Args:
        noisy: samples of ``alpha z + sigma noise``, with ``z`` drawn uniformly from ``points``.
            For other values, the result is not a mutual information.
        points: clean views from each camera, over each background.
        alpha: the signal scale.
        sigma: the noise scale, above 0.
    """
    cameras, backgrounds = points.shape[:2]
    each = _log_likelihoods(noisy, points.flatten(0, 1), alpha, sigma)
    posterior = each.unflatten(1, (cameras, backgrounds)).logsumexp(2).softmax(1)
    return math.log(cameras) - float(torch.special.entr(posterior).sum(1).mean())


def _log_likelihoods(
    noisy: Tensor, points: Tensor, alpha: float, sigma: float
) -> Float[Tensor, "b n"]:
    """Return ``log p(noisy | point)`` up to a constant that is the same for all points."""
    # Without matrix products: |x|^2 - 2 x z + |z|^2 loses its precision where points are close.
    by = "donot_use_mm_for_euclid_dist"
    apart = torch.cdist(noisy.flatten(1), alpha * points.flatten(1), compute_mode=by)
    return -0.5 * (apart / sigma).square()
