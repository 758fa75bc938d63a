"""What several Gaussians at one place must be, so that they look like the one that was there."""

import math

import pytest
import torch

from esd_splat.scene.densify.mcmc import (
    MAX_PARTS,
    OPAQUE,
    shared,
)

ANYTHING = -math.inf
"""A lower bound of opacity logits that has no effect."""


@pytest.mark.parametrize("opacity", [0.006, 0.1, 0.5, 0.9, 0.999, 1 - 1e-7])
@pytest.mark.parametrize("parts", [1, 2, 3, 5, 20, MAX_PARTS])
def test_parts_in_front_of_one_another_are_as_opaque_as_the_whole(
    opacity: float, parts: int
) -> None:
    logit = torch.tensor([opacity], dtype=torch.float64).logit()
    part, _ = shared(logit, torch.tensor([parts]), ANYTHING)
    assert 1 - (1 - part.sigmoid().item()) ** parts == pytest.approx(opacity, rel=0, abs=1e-12)


def _ratio_by_the_papers_sum(opacity: float, parts: int) -> float:
    """Equation 9 as printed, term by term."""
    part = 1 - (1 - opacity) ** (1 / parts)
    total = 0.0
    for i in range(1, parts + 1):
        for k in range(i):
            total += math.comb(i - 1, k) * (-1) ** k * part ** (k + 1) / math.sqrt(k + 1)
    return opacity / total


def _ratio_by_integration(opacity: float, parts: int) -> float:
    """Integrate the light absorbed along a line, by the trapezoidal rule up to 9 sigma."""
    x = torch.linspace(-9, 9, 3001, dtype=torch.float64)
    part = 1 - (1 - opacity) ** (1 / parts)
    light = 1 - (1 - part * (-x * x / 2).exp()) ** parts
    return opacity * math.sqrt(2 * math.pi) / (light.sum() * (x[1] - x[0])).item()


@pytest.mark.parametrize("opacity", [0.01, 0.3, 0.8, 0.999])
@pytest.mark.parametrize("parts", range(1, 6))
def test_sizes_are_those_of_the_papers_sum(opacity: float, parts: int) -> None:
    logit = torch.tensor([opacity], dtype=torch.float64).logit()
    _, log_ratio = shared(logit, torch.tensor([parts]), ANYTHING)
    expected = _ratio_by_the_papers_sum(opacity, parts)
    assert log_ratio.exp().item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("opacity", [0.01, 0.5, 0.999, 1 - 1e-6])
@pytest.mark.parametrize("parts", [1, 2, 5, 20, MAX_PARTS])
def test_the_light_taken_along_a_line_is_kept(opacity: float, parts: int) -> None:
    """This holds even for many parts of an opaque Gaussian, where terms of the sum cancel."""
    logit = torch.tensor([opacity], dtype=torch.float64).logit()
    _, log_ratio = shared(logit, torch.tensor([parts]), ANYTHING)
    expected = _ratio_by_integration(opacity, parts)
    assert log_ratio.exp().item() == pytest.approx(expected, rel=1e-9)


def test_one_part_is_the_whole() -> None:
    logits = torch.linspace(-6, 16, 200, dtype=torch.float64)
    part, log_ratio = shared(logits, torch.ones(200, dtype=torch.int64), ANYTHING)
    torch.testing.assert_close(part, logits, rtol=0, atol=1e-12)
    torch.testing.assert_close(log_ratio, torch.zeros_like(logits), rtol=0, atol=1e-12)


def test_more_than_the_table_holds_share_as_if_they_were_as_many_as_it_holds() -> None:
    logits = torch.tensor([0.3, 0.3])
    part, log_ratio = shared(logits, torch.tensor([MAX_PARTS, 1000]), ANYTHING)
    assert part[0] == part[1]
    assert log_ratio[0] == log_ratio[1]


def test_the_extremes_stay_finite() -> None:
    """Opacities above 1 - 2^-24 are divided like it, and no part is fainter than the bound."""
    logits = torch.tensor([OPAQUE, 60.0, 1e30, -5.0, -5.0])
    bound = -5.2
    part, log_ratio = shared(logits, torch.tensor([51, 51, 51, 2, 51]), bound)
    assert (part[:3] == part[0]).all()
    assert part[3:].tolist() == [bound, bound]
    assert log_ratio.isfinite().all()
    # Where the opacity is at its bound, the size changes instead.
    o, faint = torch.tensor([-5.0, bound], dtype=torch.float64).sigmoid().tolist()
    kept = 2 * faint - faint**2 / math.sqrt(2)
    assert log_ratio[3].exp().item() == pytest.approx(o / kept, rel=1e-12)
