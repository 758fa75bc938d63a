"""The pool's closed form against densities that are written out and differentiated."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, MultivariateNormal
from torch.distributions import MixtureSameFamily as Mixture

from esd_splat.config import load_config
from esd_splat.distill.pool import Pool
from esd_splat.figurines import trace
from esd_splat.run.measure import mixture_eps
from esd_splat.scene.cameras import Orbit, wrap_deg

SCHEDULE = torch.tensor([0.9, 0.5, 0.02], dtype=torch.float64)


def _latents(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 2, 1, 3, dtype=torch.float64, generator=generator) * 2 + 1


def _written_out(latents: Tensor, noisy: Tensor, a2: Tensor, bandwidth: float) -> Tensor:
    """Return ``-sigma`` times the gradient of the log-density, by autograd."""
    points = latents.flatten(1)
    mean, dims = points.mean(0), points.shape[1]
    cov = (points - mean).mT @ (points - mean) / len(points)
    a, var = a2.sqrt(), 1 - a2
    centres = a * (mean + math.sqrt(1 - bandwidth) * (points - mean))
    each = a2 * bandwidth * cov + var * torch.eye(dims, dtype=torch.float64)
    density = Mixture(Categorical(torch.ones(len(points))), MultivariateNormal(centres, each))
    x = noisy.flatten().clone().requires_grad_()
    (score,) = torch.autograd.grad(density.log_prob(x), x)
    return (-var.sqrt() * score).view_as(noisy)


@pytest.mark.parametrize("bandwidth", [0.0, 0.01, 0.3, 1.0])
@pytest.mark.parametrize("count", [2, 5, 40])
def test_it_is_the_score_of_the_widened_views(bandwidth: float, count: int) -> None:
    """With fewer views than dimensions, and with more."""
    latents, noisy = _latents(count), _latents(3, seed=1)
    t = torch.tensor([0, 1, 2])
    found = Pool(bandwidth=bandwidth).eps(latents, noisy, SCHEDULE, t)
    for row in range(3):
        expected = _written_out(latents, noisy[row], SCHEDULE[row], bandwidth)
        torch.testing.assert_close(found[row], expected, rtol=1e-9, atol=1e-9)


def test_without_bandwidth_it_is_the_mixture_that_diagnoses_compare_with() -> None:
    latents, noisy, t = _latents(7), _latents(3, seed=1), torch.tensor([1, 1, 1])
    found = Pool(bandwidth=0.0).eps(latents, noisy, SCHEDULE, t)
    torch.testing.assert_close(found, mixture_eps(noisy, latents, 0.5**0.5, 0.5**0.5))


@pytest.mark.parametrize("bandwidth", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("count", [4, 128])
def test_single_precision_loses_nothing_at_the_size_of_stable_diffusion(
    bandwidth: float, count: int
) -> None:
    """At the lowest noise that is drawn. In single precision the error was several percent."""
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(count, 4, 64, 64, generator=generator)
    schedule, t = torch.tensor([0.98]), torch.tensor([0])
    noise = torch.randn(1, 4, 64, 64, generator=generator)
    noisy = 0.98**0.5 * latents[:1] + 0.02**0.5 * noise
    found = Pool(bandwidth=bandwidth).eps(latents, noisy, schedule, t)
    exact = Pool(bandwidth=bandwidth).eps(latents.double(), noisy.double(), schedule.double(), t)
    assert found.dtype == torch.float32
    assert (found - exact).norm() < 1e-5 * exact.norm()


def test_pure_noise_is_the_noise() -> None:
    noisy, t = _latents(1, seed=5), torch.tensor([0])
    schedule = torch.zeros(1, dtype=torch.float64)
    torch.testing.assert_close(Pool().eps(_latents(3), noisy, schedule, t), noisy)


@pytest.mark.parametrize("bandwidth", [0.0, 0.5, 1.0])
def test_of_one_view_seen_twice_it_is_the_noise_that_was_drawn(bandwidth: float) -> None:
    view, noise, t = _latents(1), _latents(1, seed=3), torch.tensor([1])
    noisy = SCHEDULE[t].sqrt() * view + (1 - SCHEDULE[t]).sqrt() * noise
    found = Pool(bandwidth=bandwidth).eps(view.repeat(2, 1, 1, 1), noisy, SCHEDULE, t)
    torch.testing.assert_close(found, noise)


def test_the_exact_pool_of_distant_views_sees_nothing_but_its_own() -> None:
    """This is why views are widened: the exact distribution leaves no entropy term."""
    latents = 50 * _latents(6)
    noise, t = _latents(1, seed=4), torch.tensor([1])
    noisy = SCHEDULE[t].sqrt() * latents[:1] + (1 - SCHEDULE[t]).sqrt() * noise
    torch.testing.assert_close(Pool(bandwidth=0.0).eps(latents, noisy, SCHEDULE, t), noise)
    far = Pool(bandwidth=1.0).eps(latents, noisy, SCHEDULE, t)
    assert (far - noise).norm() > 0.1 * noise.norm()


def test_two_views_by_hand() -> None:
    """z = +-1 in one dimension, at alpha = sigma = sqrt(1/2), noisy at 1.

    Exactly: eps = (x - alpha tanh(alpha x / sigma^2)) / sigma. As one Gaussian of variance 1:
    eps = sigma x / (alpha^2 + sigma^2) = sigma x.
    """
    latents = torch.tensor([1.0, -1.0], dtype=torch.float64).view(2, 1, 1, 1)
    x, t, s = torch.ones(1, 1, 1, 1, dtype=torch.float64), torch.tensor([1]), math.sqrt(0.5)
    exact = Pool(bandwidth=0.0).eps(latents, x, SCHEDULE, t).item()
    assert exact == pytest.approx((1 - s * math.tanh(s / 0.5)) / s, abs=1e-12)
    assert Pool().eps(latents, x, SCHEDULE, t).item() == pytest.approx(s, abs=1e-12)


def test_both_settings_are_checked() -> None:
    with pytest.raises(ValueError, match=r"views: .* got 1\nbandwidth: .* got 1.5"):
        Pool(views=1, bandwidth=1.5)


def test_the_gaussian_does_not_tell_one_front_from_two_where_noise_is_high() -> None:
    """The numbers in the docstring of ``Pool``: entropies of noised views, from autograd's logdet.

    The views are a red owl from 32 sides before 8 backgrounds. In the second object the back is
    replaced with the front; in the third, every view is the front.
    """
    config = load_config("esd", ["prompt=a red owl"])
    teacher = config.teacher.load(torch.device("cpu"), torch.float32, config.memory)
    schedule = teacher.alphas_cumprod.double()
    sides = 32
    azimuth = torch.arange(sides, dtype=torch.float64) * 360 / sides
    cameras = Orbit().at(azimuth, torch.full_like(azimuth, 15.0), 64)
    backgrounds = torch.rand(8, 3, generator=torch.Generator().manual_seed(0))
    images = [
        trace("owl", "red", cameras.viewmats, cameras.Ks, 64, background.expand(sides, 3))
        for background in backgrounds
    ]
    views = torch.stack([teacher.encode(each) for each in images], 1).double()

    def entropy(views: Tensor, t: int) -> float:
        points = views.flatten(0, 1).flatten(1)
        Z, n, a2 = points - points.mean(0), len(points), schedule[t]
        # det(a2 S + s2 I) over det(s2 I), which all objects share, by Sylvester's identity.
        return float(torch.logdet(torch.eye(n) + a2 / (1 - a2) * (Z @ Z.mT) / n) / 2)

    index = torch.arange(sides)
    front = wrap_deg(azimuth).abs() < 90
    two_fronts = views[torch.where(front, index, (index + sides // 2) % sides)]
    only_front = views[torch.zeros_like(index)]
    levels = (900, 940, 980)
    second = [entropy(two_fronts, t) - entropy(views, t) for t in levels]
    around = [entropy(views, t) - entropy(only_front, t) for t in levels]
    assert max(abs(value) for value in second) == pytest.approx(0.12, abs=0.01)
    assert min(second) < 0 < max(second)
    assert (around[-1], around[0]) == pytest.approx((2.4, 5.2), abs=0.05)
    assert entropy(two_fronts, 600) - entropy(views, 600) < -6, "lower noise levels do tell"
