"""The other losses, each in cases where it equals a simpler formula."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from esd_splat.distill.guidance import guide
from esd_splat.distill.losses import Asd, Csd, Inversion, Ism, Nfsd, Sdi, Sds
from esd_splat.teacher.noise import TimestepRange, alpha_sigma, ddim_step

SCHEDULE = torch.linspace(0.02915476, 0.10954451, 1000, dtype=torch.float64).square()
ALPHAS_CUMPROD = (1 - SCHEDULE).cumprod(0)
LOW, HIGH = (torch.full((2, 1, 1, 1), level, dtype=torch.float64) for level in (0.1, 0.7))


def _eps(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 4, 3, 3, dtype=torch.float64, generator=generator)


COND, EMPTY, NEGATIVE = (_eps(seed) for seed in range(3))


def test_score_jacobian_chaining_is_sds_of_uniform_weight() -> None:
    """Its gradient is (D(x + s n) - x) / s, with the denoiser D on x + s n and s = sigma / alpha.

    In these terms it pulls by noise - eps: the direction of SDS, not weighted by timestep.
    """
    clean, noise, predicted, t = _eps(3), _eps(4), _eps(5), torch.tensor([400, 950])
    alpha, sigma = alpha_sigma(ALPHAS_CUMPROD, t)
    s = sigma / alpha
    denoised = (alpha * (clean + s * noise) - sigma * predicted) / alpha
    pull = (denoised - clean) / s
    weights = TimestepRange(weight="uniform").weights(ALPHAS_CUMPROD, t)
    torch.testing.assert_close(weights * Sds().direction(predicted, noise), -pull)


def test_csd_is_what_guidance_adds() -> None:
    added = guide(COND, EMPTY, 7.5) - COND
    torch.testing.assert_close(Csd().direction(COND, EMPTY), added / 6.5)


def test_csd_with_a_negative_prompt_of_weight_one_is_cond_against_negative() -> None:
    torch.testing.assert_close(Csd(1.0).direction(COND, EMPTY, NEGATIVE), COND - NEGATIVE)
    assert Csd(0.5).needs - Csd().needs == {"teacher_negative"}


def test_nfsd_has_no_noise_to_remove_where_noise_is_low() -> None:
    """There it is the guided prediction. Above, an empty negative prompt leaves guidance alone."""
    low = Nfsd(3.0).direction(COND, EMPTY, NEGATIVE, LOW)
    torch.testing.assert_close(low, guide(COND, EMPTY, 3.0))
    high = Nfsd(3.0).direction(COND, EMPTY, EMPTY, HIGH)
    torch.testing.assert_close(high, 3 * Csd().direction(COND, EMPTY))
    away = Nfsd(0.0).direction(COND, EMPTY, NEGATIVE, HIGH)
    torch.testing.assert_close(away, EMPTY - NEGATIVE)


def test_nfsd_decides_for_each_view() -> None:
    level = torch.cat([LOW[:1], HIGH[:1]])
    both = Nfsd().direction(COND, EMPTY, NEGATIVE, level)
    assert torch.equal(both[0], Nfsd().direction(COND, EMPTY, NEGATIVE, LOW)[0])
    assert torch.equal(both[1], Nfsd().direction(COND, EMPTY, NEGATIVE, HIGH)[1])


def test_asd_of_a_teacher_that_knows_the_noise_is_guidance_against_it() -> None:
    assert torch.equal(Asd().direction(COND, NEGATIVE), Sds().direction(COND, noise=NEGATIVE))
    t = torch.tensor([0, 10, 300, 990])
    assert Asd(0.1).later(t, 1000).tolist() == [0, 11, 330, 999]
    assert torch.equal(Asd(0.0).later(t, 1000), t)


def _gaussian(deviation: float) -> tuple:
    """Return the exact noise prediction for N(0, deviation^2), and the scale of its flow."""

    def scale(t: Tensor) -> Tensor:
        alpha, sigma = alpha_sigma(ALPHAS_CUMPROD, t)
        return (alpha**2 * deviation**2 + sigma**2).sqrt()

    def eps(noisy: Tensor, t: Tensor) -> Tensor:
        return alpha_sigma(ALPHAS_CUMPROD, t)[1] * noisy / scale(t) ** 2

    return eps, scale


@pytest.mark.parametrize("deviation", [0.5, 1.0, 2.0])
def test_inversion_follows_the_flow_of_a_gaussian(deviation: float) -> None:
    """The flow keeps a point at its quantile. The error is of first order in the step size."""
    eps, scale = _gaussian(deviation)
    clean, t = _eps(3), torch.tensor([400, 950])
    # The path starts at timestep 0, which has a little noise already.
    exact = clean * scale(t) / scale(torch.zeros_like(t))
    errors = []
    for steps in (100, 200):
        noisy, _ = Inversion(steps, 1.0).walk(eps, clean, ALPHAS_CUMPROD, t)
        errors.append((noisy - exact).abs().max().item())
    assert errors[1] < 0.06
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.25) or errors[0] < 1e-12


def test_a_step_of_ism_ends_where_its_last_prediction_says() -> None:
    eps, _ = _gaussian(1.5)
    clean, t, inversion = _eps(3), torch.tensor([400, 950]), Ism(steps=4, interval=0.05).inversion
    noisy, last = inversion.walk(eps, clean, ALPHAS_CUMPROD, t)
    before, _ = Inversion(3, 0.0).walk(eps, clean, ALPHAS_CUMPROD, t - 50)
    torch.testing.assert_close(last, eps(before, t - 50))
    torch.testing.assert_close(noisy, ddim_step(before, last, ALPHAS_CUMPROD, t - 50, t))
    assert torch.equal(Ism().direction(COND, inverted=last), COND - last)


@given(
    steps=st.integers(1, 20),
    last=st.sampled_from([0.0, 1e-6, 0.05, 0.5]),
    t=st.lists(st.integers(0, 999), min_size=1, max_size=4),
)
def test_a_path_goes_up_from_zero_to_its_timestep(steps: int, last: float, t: list[int]) -> None:
    times = Inversion(steps, 0.0, last).times(torch.tensor(t), 1000)
    assert times.shape == (steps + 1, len(t))
    assert times[0].tolist() == [0] * len(t)
    assert times[-1].tolist() == t
    assert (times.diff(dim=0) >= 0).all()
    if last and steps > 1:
        assert times[-2].tolist() == [max(0, x - max(1, round(1000 * last))) for x in t]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Csd(-1.0), "negative: must be at least 0, got -1"),
        (lambda: Nfsd(2000.0), r"guidance_scale: must be in \[0, 1000\], got 2000"),
        (lambda: Asd(1.5), r"shift: must be in \[0, 1\], got 1.5"),
        (lambda: Sdi(0, 2e3), r"steps: .* got 0\nguidance_scale: .* got 2000"),
        (lambda: Ism(1, 1.0), r"steps: .* got 1\ninterval: must be in \(0, 1\), got 1"),
    ],
)
def test_bad_settings_say_so(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
