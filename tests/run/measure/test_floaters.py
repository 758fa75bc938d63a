"""Balls of Gaussians with floaters planted beside them."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from esd_splat.run.measure.floaters import CELL, DENSE, floaters
from esd_splat.scene.gaussians import Gaussians

SIGMA = 0.05


def _scene(means: Tensor, opacity: float = 0.9, sigma: float = SIGMA) -> Gaussians:
    n = len(means)
    return Gaussians(
        means=means,
        quats=torch.tensor([1.0, 0, 0, 0]).repeat(n, 1),
        log_scales=torch.full((n, 3), math.log(sigma)),
        opacity_logits=torch.full((n,), opacity).logit(),
        sh0=torch.zeros(n, 1, 3),
        shN=torch.zeros(n, 0, 3),
    )


def _shell(n: int = 300, radius: float = 0.4) -> Tensor:
    """Points that are evenly spread over a sphere, by the golden angle."""
    k = torch.arange(n) + 0.5
    z, turn = 1 - 2 * k / n, k * math.pi * (3 - 5**0.5)
    ring = (1 - z.square()).sqrt()
    return radius * torch.stack([ring * turn.cos(), z, ring * turn.sin()], 1)


def test_a_body_has_none() -> None:
    shell = _scene(_shell())
    assert floaters(shell, shell.opacities) == 0


@pytest.mark.parametrize("count", [1, 30, 100])
def test_planted_ones_are_counted_by_their_light(count: int) -> None:
    beside = torch.tensor([0.85, 0.0, 0.0]) + 0.02 * _shell(count)
    scene = _scene(torch.cat([_shell(), beside]))
    light = torch.cat([torch.full((300,), 2.0), torch.ones(count)])
    assert floaters(scene, light) == pytest.approx(count / (600 + count))


def test_the_main_body_is_the_one_that_sends_the_most_light() -> None:
    beside = torch.tensor([0.85, 0.0, 0.0]) + 0.02 * _shell(10)
    scene = _scene(torch.cat([_shell(), beside]))
    light = torch.cat([torch.ones(300), torch.full((10,), 90.0)])
    assert floaters(scene, light) == pytest.approx(300 / 1200)


def test_faint_fog_joins_nothing_and_is_outside() -> None:
    fog = _scene(0.9 * _shell(100, 1.0), opacity=0.05, sigma=0.15)
    dense = _scene(_shell())
    scene = Gaussians(
        *(torch.cat(pair) for pair in zip(vars(dense).values(), vars(fog).values(), strict=True))
    )
    assert floaters(scene, torch.ones(400)) == pytest.approx(100 / 400)


def test_many_faint_ones_in_one_place_are_a_body() -> None:
    scene = _scene(0.05 * _shell(200), opacity=0.05)
    assert floaters(scene, scene.opacities) == 0
    assert floaters(_scene(torch.zeros(1, 3), opacity=0.05), torch.ones(1)) == 1


def test_far_away_is_outside() -> None:
    scene = _scene(torch.cat([_shell(), torch.tensor([[50.0, 0, 0]])]))
    assert floaters(scene, torch.ones(301)) == pytest.approx(1 / 301)


def test_one_large_flat_gaussian_is_a_body_as_wide_as_it_is() -> None:
    """A disc in the x-z plane reaches small Gaussians in the plane, and none above it."""
    centre = torch.zeros(1, 3)
    for place, apart in (([0.5, 0, 0], False), ([0.0, 0.5, 0], True)):
        scene = _scene(torch.cat([centre, torch.tensor([place])]), opacity=0.99)
        scene.log_scales[0] = torch.tensor([0.4, 0.002, 0.4]).log()
        assert floaters(scene, torch.tensor([9.0, 1.0])) == (pytest.approx(0.1) if apart else 0)
        # The same, with the disc turned upright about z.
        scene.quats[0] = torch.tensor([1.0, 0, 0, 1.0])
        assert floaters(scene, torch.tensor([9.0, 1.0])) == (0 if apart else pytest.approx(0.1))


@settings(max_examples=15)
@given(gap=st.floats(0.05, 0.8))
def test_two_balls_are_two_bodies_where_a_gap_is_wider_than_two_cells(gap: float) -> None:
    """Where the density ``0.99 exp(-d^2 / 2)`` falls to ``DENSE``, a ball ends."""
    edge = math.sqrt(2 * math.log(0.99 / DENSE)) * math.hypot(SIGMA, CELL / 2)
    apart = 2 * edge + gap
    scene = _scene(torch.tensor([[-apart / 2, 0, 0], [apart / 2, 0, 0]]), opacity=0.99)
    found = floaters(scene, torch.tensor([3.0, 1.0]))
    if gap > 2 * CELL:
        assert found == pytest.approx(0.25)
    # Without any gap they are one.
    near = Gaussians(**vars(scene) | {"means": scene.means * (edge / apart)})
    assert floaters(near, torch.tensor([3.0, 1.0])) == 0


def test_no_light_has_no_share() -> None:
    assert floaters(_scene(_shell()), torch.zeros(300)) == 0
