"""The closed forms of the toy, compared with independent definitions."""

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from esd_splat.toy.exact import Gaussian, fixed_point, make_problem, point_eps


def _randn(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("ndim", [1, 2, 5])
def test_eps_is_minus_sigma_times_the_score_of_the_noised_gaussian(ndim: int) -> None:
    gaussian = Gaussian(_randn(ndim), _randn(ndim, ndim, seed=1))
    noisy = _randn(4, ndim, seed=2).requires_grad_()
    alpha = torch.tensor([[0.99], [0.7], [0.3], [0.05]], dtype=torch.float64)
    sigma = (1 - alpha**2).sqrt()
    cov = alpha[:, :, None] ** 2 * (gaussian.factor @ gaussian.factor.T)
    cov = cov + sigma[:, :, None] ** 2 * torch.eye(ndim, dtype=torch.float64)
    MultivariateNormal(alpha * gaussian.mean, cov).log_prob(noisy).sum().backward()
    assert noisy.grad is not None
    eps = gaussian.eps(noisy.detach(), alpha, sigma)
    torch.testing.assert_close(eps, -sigma * noisy.grad, rtol=1e-10, atol=1e-10)


def test_a_point_is_a_gaussian_without_spread() -> None:
    x, noise = _randn(1, 3), _randn(1, 3, seed=1)
    alpha, sigma = torch.tensor([[0.8]]).double(), torch.tensor([[0.6]]).double()
    noisy = alpha * x + sigma * noise
    flat = Gaussian(x[0], torch.zeros(3, 3, dtype=torch.float64))
    torch.testing.assert_close(point_eps(x, noisy, alpha, sigma), noise)
    torch.testing.assert_close(flat.eps(noisy, alpha, sigma), noise)


def test_placed_normals_have_the_mean_and_covariance() -> None:
    gaussian = Gaussian(_randn(2), torch.tensor([[1.0, 2.0], [0.0, 3.0]]).double())
    # The corners of a square have the first and second moments of a standard normal.
    corners = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]]).double()
    points = gaussian.place(corners)
    torch.testing.assert_close(points.mean(0), gaussian.mean)
    torch.testing.assert_close(
        points.T.cov(correction=0), torch.tensor([[5.0, 6], [6, 9]]).double()
    )
    torch.testing.assert_close(points.T.cov(correction=0), gaussian.cov)


@pytest.mark.parametrize("entropy_weight", [0.0, 0.2, 0.5, 0.9, 1.0, 1.5, 4.0])
def test_at_one_level_the_fixed_point_is_the_closed_form(entropy_weight: float) -> None:
    factor = _randn(3, 3)
    target = factor @ factor.T
    alpha, sigma = torch.tensor([[0.8], [0.6]], dtype=torch.float64)
    spread, axes = torch.linalg.eigh(target)
    wanted = (entropy_weight * spread - (1 - entropy_weight) * (0.6 / 0.8) ** 2).clamp_min(0)
    found = fixed_point(target, entropy_weight, alpha, sigma, torch.ones(1).double())
    torch.testing.assert_close(found, (axes * wanted) @ axes.T, rtol=0, atol=1e-12)


def test_over_several_levels_the_fixed_point_lies_between_theirs() -> None:
    target = torch.eye(1, dtype=torch.float64)
    alpha = torch.tensor([0.9, 0.6], dtype=torch.float64)
    sigma = (1 - alpha**2).sqrt()

    def at(*levels: int, weight: float = 1.0) -> float:
        k = list(levels)
        weights = torch.tensor([1.0, weight], dtype=torch.float64)[k]
        return fixed_point(target, 0.9, alpha[k], sigma[k], weights).item()

    assert at(1) < at(0, 1) < at(0)
    assert at(0, 1, weight=1e-9) == pytest.approx(at(0))
    assert at(0, 1, weight=1e9) == pytest.approx(at(1))


def test_the_problem_is_that_of_the_papers_script() -> None:
    """The rounded numbers that the script prints on the CPU at seed 0 with its defaults."""
    target, start = make_problem(torch.Generator().manual_seed(0), 2, 10.0)
    torch.testing.assert_close(
        torch.linalg.eigvalsh(target.cov),
        torch.tensor([1.0278195, 2.9391177], dtype=torch.float64),
        rtol=0,
        atol=1e-6,
    )
    assert ((start.mean - target.mean) / 10).min() >= 0
    assert ((start.mean - target.mean) / 10).max() <= 1
