"""The noise of MCMC densification: its law, its reach, and the kernels that draw it."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from esd_splat.scene import kernels
from esd_splat.scene.densify.mcmc import (
    GATE_OPACITY,
    NOISE,
    Mcmc,
    wander_native,
    wander_torch,
)
from esd_splat.scene.densify.random import normals
from esd_splat.scene.gaussians import Gaussians
from tests.scene.densify.scenes import scene_of_rows, with_rows

ALWAYS = Mcmc(every=1, window=(0.0, 1.0))
"""Edits at every step, with defaults otherwise."""
STILL = dataclasses.replace(ALWAYS, growth=0.0)
"""The same without growth."""
ANYTHING = -math.inf
"""A lower bound of opacity logits that has no effect."""


FAINT = math.log(GATE_OPACITY / (1 - GATE_OPACITY))
"""Opacity logit at which the factor of the noise is 0.5."""


def _walk(scene: Gaussians, noise: float = 2000.0, seed: int = 0, step: int = 1) -> Tensor:
    """Return in float64 what the noise adds to the means at a learning rate of 0.005."""
    moved = scene.map(lambda v: v.detach().clone())
    dataclasses.replace(ALWAYS, noise=noise).nudge(moved, 0.005, step, 10, seed)
    for name, value in vars(moved).items():
        assert name == "means" or torch.equal(value, getattr(scene, name))
    return moved.means.double() - scene.means.double()


def _copies(count: int, log_scales: list[float], logit: float = FAINT) -> Gaussians:
    """Copies of a tilted Gaussian at the origin, where adding a small step loses no digits."""
    one = scene_of_rows(1, seed=3).map(lambda v: v.expand(count, *v.shape[1:]).clone())
    changed = {
        "means": torch.zeros(count, 3),
        "log_scales": torch.tensor(log_scales).expand(count, 3).clone(),
        "opacity_logits": torch.full((count,), logit),
    }
    return Gaussians(**vars(one) | changed)


def test_the_noise_has_the_covariance_of_the_formula() -> None:
    """The covariance is ``(noise lr gate)^2 Sigma Sigma^T``, estimated from 20000 rows."""
    count = 20_000
    scene = _copies(count, [-2.0, -3.0, -2.5])
    walk = _walk(scene)
    sigma = scene.covariances[0].double()
    expected = (2000 * 0.005 * 0.5) ** 2 * sigma @ sigma.T
    # The variance of the estimate of cov_ij is (cov_ii cov_jj + cov_ij^2) / n for normal numbers,
    # and less for our distribution with its lighter tails.
    variances = expected.diagonal()
    error = ((variances[:, None] * variances + expected**2) / count).sqrt()
    assert ((walk.T @ walk / count - expected).abs() <= 4 * error).all()
    assert (walk.mean(0).abs() <= 4 * (variances / count).sqrt()).all()
    assert expected[0, 1].abs() > 20 * error[0, 1], "the axes are told apart"


def test_the_noise_is_the_formula_row_by_row() -> None:
    scene = with_rows(scene_of_rows(30), means=dict.fromkeys(range(30), 0.0))
    scene = Gaussians(**vars(scene) | {"opacity_logits": torch.linspace(-8, -3, 30)})
    eta = normals(7, 3, torch.arange(30), NOISE).double()
    wide = scene.map(lambda v: v.double())
    for row, moved in enumerate(_walk(scene, noise=500.0, seed=7, step=3)):
        gate = 1 / (1 + math.exp(-100 * ((1 - wide.opacities[row].item()) - 0.995)))
        expected = 500 * 0.005 * gate * wide.covariances[row] @ eta[row]
        torch.testing.assert_close(moved, expected, rtol=1e-6, atol=0.0)


def test_faint_rows_wander_and_opaque_ones_stay() -> None:
    logits = [-12.0, FAINT, -3.5, -2.0, 0.0, 8.0]
    lengths = [_walk(_copies(100, [-3.0] * 3, logit)).norm(dim=1).mean().item() for logit in logits]
    assert lengths == sorted(lengths, reverse=True)
    open_gate = 1 / (1 + math.exp(-0.5))  # without any opacity: sigmoid(100 * 0.005)
    assert lengths[1] == pytest.approx(0.5 / open_gate * lengths[0], rel=1e-2)
    assert lengths[3] < 1e-4 * lengths[0], "at an opacity of 0.12"
    assert max(lengths[4:]) < 1e-15


def test_the_noise_stays_in_the_plane_of_a_flat_gaussian() -> None:
    scene = _copies(200, [-2.0, -2.0, -12.0])
    axes = _walk(scene) @ scene.covariance_factors[0].double() / scene.log_scales[0].double().exp()
    assert axes[:, :2].abs().mean() > 1e-3
    assert axes[:, 2].abs().max() < 1e-6 * axes[:, :2].abs().mean()


def test_the_noise_goes_with_strength_and_learning_rate() -> None:
    scene = _copies(50, [-3.0] * 3)
    torch.testing.assert_close(_walk(scene, noise=4000.0), 2 * _walk(scene), rtol=1e-6, atol=0.0)
    halved = scene.map(torch.clone)
    ALWAYS.nudge(halved, 0.0025, 1, 10, seed=0)
    torch.testing.assert_close(2 * halved.means.double(), _walk(scene), rtol=1e-6, atol=0.0)
    assert not _walk(scene, noise=0.0).any()


def test_noise_is_a_function_of_seed_step_and_row() -> None:
    scene = _copies(64, [-3.0] * 3)
    torch.manual_seed(0)
    first = _walk(scene, seed=4)
    torch.manual_seed(1)
    assert torch.equal(_walk(scene, seed=4), first)
    assert torch.equal(_walk(scene.map(lambda v: v[:10]), seed=4), first[:10])
    for other in (_walk(scene, seed=5), _walk(scene, seed=4, step=2), first.roll(1, 0)):
        assert not (other == first).any()


def test_rows_without_a_picture_are_left_as_they_are() -> None:
    """If the noise made them infinite, the run would end before the next edit replaces them."""
    walk = _walk(with_rows(_copies(5, [-3.0] * 3), log_scales={1: 60.0, 2: 700.0}, quats={3: 0.0}))
    assert walk[[0, 4]].all()
    assert not walk[1:4].any()


@pytest.mark.skipif(bool(kernels.MISSING), reason=f"no kernels: {kernels.MISSING}")
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_the_kernels_noise_equals_torchs(device: str) -> None:
    scene = scene_of_rows(5000, sh=3)
    scene.opacity_logits.copy_(torch.linspace(-9.0, 9.0, 5000))
    scene.means[::3] = 0.0
    scene.log_scales[7], scene.quats[8], scene.means[9] = 60.0, 0.0, torch.nan
    one, other = (scene.map(lambda v: v.clone()) for _ in range(2))
    other = other.map(lambda v: v.to(device))
    wander_torch(one, 10.0, 3, 2**40 + 1)
    wander_native(other, 10.0, 3, 2**40 + 1)
    assert torch.equal(one.means.nan_to_num(5.0), other.means.cpu().nan_to_num(5.0))
    moved = (one.means != scene.means).any(1)
    assert moved[:1000].double().mean() > 0.99, "the faint wander"
    assert not moved[4000:].any(), "the opaque do not"
