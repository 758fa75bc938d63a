"""Exact scores and information against closed forms, and against numerical integrals."""

import math

import pytest
import torch
from torch import Tensor

from esd_splat.run.measure.scores import mixture_eps, view_information

ALPHA, SIGMA = 0.8, 0.6


def _normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def test_of_one_point_it_is_the_noise_that_was_drawn() -> None:
    point, noise = _normal(1, 2, 3), _normal(5, 2, 3, seed=1)
    found = mixture_eps(ALPHA * point + SIGMA * noise, point, ALPHA, SIGMA)
    torch.testing.assert_close(found, noise)


@pytest.mark.parametrize("shape", [(1,), (4, 8, 8)], ids=["one dimension", "many"])
def test_of_two_points_it_is_a_tanh(shape: tuple[int, ...]) -> None:
    """At z and -z: (x - alpha z tanh(alpha x.z / sigma^2)) / sigma."""
    z, noisy = 0.2 * _normal(1, *shape), _normal(6, *shape, seed=1)
    inner = (noisy * z).flatten(1).sum(1).view(-1, *(1,) * len(shape))
    expected = (noisy - ALPHA * z * torch.tanh(ALPHA * inner / SIGMA**2)) / SIGMA
    found = mixture_eps(noisy, torch.cat([z, -z]), ALPHA, SIGMA)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_of_a_gaussian_cloud_it_is_linear() -> None:
    """Points at the quantiles of N(m, s^2): eps = sigma (x - alpha m) / (alpha^2 s^2 + sigma^2)."""
    m, s, count = 0.7, 1.3, 20_001
    quantiles = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    cloud = m + s * math.sqrt(2) * torch.erfinv(2 * quantiles - 1)
    noisy = torch.linspace(-2, 3, 11, dtype=torch.float64)[:, None]  # the cloud has no far tails
    found = mixture_eps(noisy, cloud[:, None], ALPHA, SIGMA)
    expected = SIGMA * (noisy - ALPHA * m) / (ALPHA**2 * s**2 + SIGMA**2)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_it_is_the_score_that_autograd_finds() -> None:
    points, noisy = _normal(7, 3, 2), _normal(4, 3, 2, seed=1).requires_grad_()
    off = (noisy[:, None] - ALPHA * points).flatten(2).square().sum(2)
    density = torch.logsumexp(-off / (2 * SIGMA**2), dim=1).sum()
    (score,) = torch.autograd.grad(density, noisy)
    found = mixture_eps(noisy.detach(), points, ALPHA, SIGMA)
    torch.testing.assert_close(found, -SIGMA * score)


@pytest.mark.parametrize("noise", [0.5, 1.0, 2.0])
def test_the_information_of_two_views_is_that_of_a_binary_channel(noise: float) -> None:
    """x = +-1 + noise: log 2 - E log(1 + exp(-2 y / noise^2)) with y ~ N(1, noise^2)."""
    y = torch.linspace(1 - 9 * noise, 1 + 9 * noise, 20_001, dtype=torch.float64)
    density = torch.exp(-0.5 * ((y - 1) / noise) ** 2) / (noise * math.sqrt(2 * math.pi))
    lost = torch.nn.functional.softplus(-2 * y / noise**2)
    expected = math.log(2) - torch.trapezoid(density * lost, y).item()

    draws = 40_000
    points = torch.tensor([1.0, -1.0], dtype=torch.float64).view(2, 1, 1)
    noisy = points[:, 0].repeat(draws // 2, 1) + noise * _normal(draws, 1)
    # Four standard errors: the entropy of one draw is in [0, log 2].
    found = view_information(noisy, points, 1.0, noise)
    assert found == pytest.approx(expected, abs=4 * math.log(2) / 2 / math.sqrt(draws))


def test_views_that_are_alike_tell_nothing_of_their_camera() -> None:
    alike = _normal(1, 3, 5).expand(4, 3, 5)
    assert view_information(_normal(8, 5), alike, ALPHA, SIGMA) == pytest.approx(0, abs=1e-12)


def test_views_far_apart_tell_all_whatever_is_behind_them() -> None:
    far = 1e3 * _normal(4, 3, 5)
    noisy = ALPHA * far.flatten(0, 1) + SIGMA * _normal(12, 5, seed=1)
    found = view_information(noisy, far, ALPHA, SIGMA)
    assert found == pytest.approx(math.log(4), abs=1e-9)


def test_backgrounds_that_differ_tell_nothing_if_cameras_do_not() -> None:
    """A posterior over single views would find log 3 more than there is."""
    backgrounds = 1e3 * _normal(1, 3, 5).expand(4, 3, 5)
    noisy = ALPHA * backgrounds.flatten(0, 1) + SIGMA * _normal(12, 5, seed=1)
    found = view_information(noisy, backgrounds, ALPHA, SIGMA)
    assert found == pytest.approx(0, abs=1e-9)


def test_more_noise_leaves_less() -> None:
    points = _normal(6, 2, 3)
    clean = points.flatten(0, 1).repeat(50, 1)
    found = [
        view_information(a * clean + math.sqrt(1 - a**2) * _normal(*clean.shape), points, a, s)
        for a, s in ((0.95, math.sqrt(1 - 0.95**2)), (0.5, math.sqrt(0.75)), (1e-6, 1.0))
    ]
    assert math.log(6) > found[0] > found[1] > found[2]
    assert found[2] == pytest.approx(0, abs=1e-4)
