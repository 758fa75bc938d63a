"""Schedule algebra against its inverses, and timestep ranges against numbers worked by hand."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from esd_splat.teacher.noise import (
    TimestepRange,
    add_noise,
    alpha_sigma,
    eps_from_flow,
    eps_from_v,
    velocity,
)

STABLE_DIFFUSION = (
    1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64).square()
).cumprod(0)

ALPHAS_CUMPROD = torch.tensor([0.99, 0.5, 0.01], dtype=torch.float64)
T3 = torch.tensor([0, 1, 2])


def _clean_and_noise() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 3, 4, 2, 2, dtype=torch.float64, generator=generator)
    return clean, noise


def test_scales_by_hand() -> None:
    a, s = alpha_sigma(torch.tensor([0.64, 0.36]), torch.tensor([1, 0, 1]))
    torch.testing.assert_close(a.flatten(), torch.tensor([0.6, 0.8, 0.6]))
    torch.testing.assert_close(s.flatten(), torch.tensor([0.8, 0.6, 0.8]))
    assert a.shape == s.shape == (3, 1, 1, 1)


def test_noising_preserves_unit_variance() -> None:
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 3, 1, 100, 1000, dtype=torch.float64, generator=generator)
    noisy = add_noise(clean, noise, ALPHAS_CUMPROD, T3)
    torch.testing.assert_close(
        noisy.var(dim=(1, 2, 3)), torch.ones(3).double(), rtol=0, atol=0.02
    )  # of 1e5 samples: five standard errors


def test_v_prediction_of_the_truth_returns_the_drawn_noise() -> None:
    clean, noise = _clean_and_noise()
    a, s = alpha_sigma(ALPHAS_CUMPROD, T3)
    noisy = add_noise(clean, noise, ALPHAS_CUMPROD, T3)
    eps = eps_from_v(a * noise - s * clean, noisy, ALPHAS_CUMPROD, T3)
    torch.testing.assert_close(eps, noise)
    v = velocity(clean, noise, ALPHAS_CUMPROD, T3)
    torch.testing.assert_close(eps_from_v(v, noisy, ALPHAS_CUMPROD, T3), noise)


def test_flow_prediction_of_the_truth_returns_the_drawn_noise() -> None:
    clean, noise = _clean_and_noise()
    a, s = alpha_sigma(ALPHAS_CUMPROD, T3)
    noisy = add_noise(clean, noise, ALPHAS_CUMPROD, T3)
    u = s / (a + s)
    torch.testing.assert_close(noisy / (a + s), (1 - u) * clean + u * noise)  # where it looks
    torch.testing.assert_close(eps_from_flow(noise - clean, noisy, ALPHAS_CUMPROD, T3), noise)


@pytest.mark.parametrize(
    ("progress", "expected"),
    # 0.98 until a quarter of the run, 0.48 from three quarters; halfway between them 0.73.
    [(0.0, 980), (0.25, 980), (0.5, 730), (0.75, 480), (1.0, 480), (-1.0, 980), (7.0, 480)],
)
def test_upper_bound_comes_down_by_hand(progress: float, expected: int) -> None:
    timesteps = TimestepRange(max_end=0.48, anneal_start=0.25, anneal_end=0.75)
    assert timesteps.bounds(progress, 1000) == (20, expected)


def test_equal_ends_of_the_anneal_are_a_jump() -> None:
    timesteps = TimestepRange(max_end=0.5, anneal_start=0.2, anneal_end=0.2)
    assert timesteps.bounds(0.199999, 1000) == (20, 980)
    assert timesteps.bounds(0.2, 1000) == (20, 500)


def test_the_upper_bound_stays_unless_told_otherwise() -> None:
    assert {TimestepRange(max=0.7).bounds(p, 1000) for p in (0.0, 0.3, 1.0)} == {(20, 700)}


@pytest.mark.parametrize(
    ("progress", "expected"), [(0.0, 900), (0.3, 460), (0.6, 20), (0.7, 20), (1.0, 20)]
)
def test_the_lower_bound_comes_down_too(progress: float, expected: int) -> None:
    timesteps = TimestepRange(min_start=0.9, min_until=0.6)
    assert timesteps.bounds(progress, 1000) == (expected, 980)


def test_a_lower_bound_that_comes_down_later_waits_under_the_upper_one() -> None:
    timesteps = TimestepRange(min_start=0.9, min_until=1.0, max_end=0.5, anneal_end=0.5)
    assert timesteps.bounds(0.5, 1000) == (460, 500)
    assert timesteps.bounds(0.3, 1000) == (636, 692)
    early = TimestepRange(min_start=0.9, min_until=1.0, max_end=0.3, anneal_end=0.2)
    assert early.bounds(0.2, 1000) == (300, 300)


def test_bounds_are_rounded_and_kept_below_the_number_of_timesteps() -> None:
    assert 0.29 * 100 < 29, "the trap: int() would make it 28"
    assert TimestepRange(min=0.29, max=0.58).bounds(0.0, 100) == (29, 58)
    assert TimestepRange(min=0.96, max=0.98).bounds(0.0, 10) == (9, 9)


@st.composite
def _ranges(draw: st.DrawFn) -> TimestepRange:
    bounds = draw(st.lists(st.floats(1e-6, 1 - 1e-6), min_size=4, max_size=4))
    low, low_start, high, end = sorted(bounds)
    low, low_start = low / 2, low_start / 2  # strictly below, even if they were equal
    start, stop = sorted(draw(st.tuples(st.floats(0, 1), st.floats(0, 1))))
    high, end = draw(st.sampled_from([(high, end), (end, high)]))
    return TimestepRange(low, low_start, draw(st.floats(0, 1)), high, end, start, stop)


@given(timesteps=_ranges(), progress=st.floats(0, 1), T=st.integers(1, 5000))
def test_bounds_are_timesteps_and_move_one_way(
    timesteps: TimestepRange, progress: float, T: int
) -> None:
    low, high = timesteps.bounds(progress, T)
    assert 0 <= low <= high <= T - 1
    uppers = [timesteps.bounds(p, T)[1] for p in (0.0, progress, 1.0)]
    assert uppers in (sorted(uppers), sorted(uppers, reverse=True))
    assert low >= timesteps.bounds(1.0, T)[0]


def test_draws_reach_both_bounds_and_nothing_beyond() -> None:
    timesteps = TimestepRange(min=0.2, max=0.8, max_end=0.5)
    generator = torch.Generator().manual_seed(0)
    assert set(timesteps.draw(0.0, 1000, torch.ones(10), generator).tolist()) == set(range(2, 9))
    assert set(timesteps.draw(1.0, 1000, torch.ones(10), generator).tolist()) == set(range(2, 6))


def test_draws_come_from_the_generator() -> None:
    known = torch.ones(1000)
    first, again = (
        TimestepRange().draw(0.0, 8, known, torch.Generator().manual_seed(3)) for _ in range(2)
    )
    assert torch.equal(first, again)
    assert len(first.unique()) > 1, "every view has its own timestep"


def _at(timesteps: TimestepRange, progress: float) -> int:
    """The timestep on Stable Diffusion's schedule."""
    drawn = timesteps.draw(progress, 3, STABLE_DIFFUSION, torch.Generator())
    assert len(drawn.unique()) == 1, "one for all views"
    return int(drawn[0])


def test_the_square_root_by_hand() -> None:
    timesteps = TimestepRange(schedule="sqrt", min=0.1, max=0.9)
    assert [_at(timesteps, p) for p in (0.0, 0.25, 1.0)] == [900, 500, 100]


def test_dreamtime_comes_down_and_dwells_where_its_weight_is() -> None:
    """Half of the run is spent above the timestep that has half of the weight above it."""
    timesteps = TimestepRange(schedule="dreamtime")
    found = [_at(timesteps, p / 200) for p in range(201)]
    assert found[0] == 980
    assert found[-1] <= 300
    assert found == sorted(found, reverse=True)
    weight = {
        t: ((1 - STABLE_DIFFUSION[t]) / STABLE_DIFFUSION[t]).sqrt().item()
        * math.exp(-0.5 * (max(t - 800, 0) / 300) ** 2 - 0.5 * (min(t - 500, 0) / 100) ** 2)
        for t in range(20, 981)
    }
    above = sum(w for t, w in weight.items() if t >= found[100]) / sum(weight.values())
    assert above == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("schedule", ["sqrt", "dreamtime"])
def test_a_schedule_that_comes_down_by_itself_has_no_other(schedule: Any) -> None:
    with pytest.raises(ValueError, match=r"min_start: must be null .*\nmax_end: must be null"):
        TimestepRange(schedule=schedule, min_start=0.5, max_end=0.5)


@pytest.mark.parametrize(
    ("timesteps", "expected"),
    # alphas_cumprod = 0.64: alpha 0.8, sigma^2 0.36
    [
        (TimestepRange(), 0.36),
        (TimestepRange(weight="alpha_sigma2"), 0.288),
        (TimestepRange(weight="uniform"), 1.0),
    ],
)
def test_weights_by_hand(timesteps: TimestepRange, expected: float) -> None:
    weights = timesteps.weights(torch.tensor([0.99, 0.64]), torch.tensor([1, 1]))
    torch.testing.assert_close(weights, torch.full((2, 1, 1, 1), expected))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"min": 0.0}, "min: must be in (0, 1), got 0"),
        ({"max": 980.0}, "max: must be in (0, 1), got 980"),
        ({"min": float("nan")}, "min: must be in (0, 1), got nan"),
        ({"min": 0.5, "max": 0.5}, "max: must be above min = 0.5, got 0.5"),
        ({"max_end": 0.01}, "max_end: must be above min = 0.02, got 0.01"),
        ({"min_start": 0.99}, "min_start: must be in [min, max) = [0.02, 0.98), got 0.99"),
        ({"min_start": 0.01}, "min_start: must be in [min, max) = [0.02, 0.98), got 0.01"),
        ({"min_until": 2.0}, "min_until: must be in [0, 1], got 2"),
        ({"anneal_start": -0.5}, "anneal_start: must be in [0, 1], got -0.5"),
        (
            {"anneal_start": 0.5, "anneal_end": 0.25},
            "anneal_end: must not be below anneal_start = 0.5, got 0.25",
        ),
        (
            {"min": 2.0, "max_end": 3.0},
            "min: must be in (0, 1), got 2\nmax_end: must be in (0, 1), got 3",
        ),
    ],
)
def test_rejects_with_every_reason(fields: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match="must") as caught:
        TimestepRange(**fields)  # pyright: ignore[reportArgumentType]
    assert str(caught.value) == message
